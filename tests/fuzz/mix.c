/* The mixing coder (FORMAT.md, section 9): any bytes are decoded; as residuals they come back; an output that is too
 * small is said to be. */
#include "fuzz.h"

enum { MOST_VALUES = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reader start = {data, data + size, false};
    /* One in eight with many values and wide rows: they take milliseconds. */
    size_t n = any_u16(&start), width = any_u16(&start), phase = any_u16(&start);
    n = n % 8 ? n / 8 % 256 : n / 8;
    width = width % 8 ? width / 8 % 256 : width;
    size_t need = szd_mix_scratch(width);
    unsigned shift = read_u8(&start) & 31;
    reader r = guarded_input(0, start.at, reader_left(&start), size & 1);
    size_t left = reader_left(&r), values = left / 4 < MOST_VALUES ? left / 4 : MOST_VALUES, room = 64 + 16 * values,
           coded, used;
    uint8_t *scratch = guarded(1, need, false);
    int32_t *out = (int32_t *)(void *)guarded(2, 4 * (n > values ? n : values), false);
    szd_mix_decode(r.at, left, width, phase, scratch, out, n);

    int32_t *residuals = (int32_t *)(void *)guarded(3, 4 * values, false);
    for (size_t i = 0; i < values; i++)
        residuals[i] = (int32_t)load_u32(r.at + 4 * i) >> shift;
    uint8_t *to = guarded(4, room, true);
    CHECK(szd_mix_encode(residuals, values, width, phase, scratch, to, room, &coded) == SZD_OK);
    CHECK(szd_mix_decode(to, coded, width, phase, scratch, out, values) == SZD_OK);
    CHECK(memcmp(out, residuals, 4 * values) == 0);
    size_t small = coded ? shift % coded : 0;
    CHECK(coded == 0 ||
          szd_mix_encode(residuals, values, width, phase, scratch, guarded(5, small, true), small, &used));
    return 0;
}

/* Elements losslessly in any form: raw, bytes, split, dictionary (FORMAT.md, section 5). */
#include "fuzz.h"

typedef struct form {
    unsigned bytes;
    bool rotate, delta, composite;
} form;

static int decode(planes_decoder *d, reader r, size_t n, form f, uint32_t isa, uint8_t *out)
{
    size_t need = symbols_decode_scratch(n) + 64;
    uint8_t *scratch = guarded(4, need, n & 1);
    memset(scratch, isa == SZD_ISA_SCALAR ? 0 : 0xa5, need);
    int status = planes_begin(d, &r, n, f.bytes, f.rotate, f.delta, isa, f.composite ? aligned64(scratch) : NULL);
    if (status)
        return status;
    return planes_next(d, out, n, isa) && planes_finished(d) ? SZD_OK : SZD_BLOCK_CODES;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reader start = {data, data + size, false};
    size_t n = 1 + any_u16(&start) % 20000;
    unsigned how = read_u8(&start);
    bool rotate = how & 1;
    unsigned bytes = rotate ? 2u << (how >> 1 & 3) % 3 : 1u << (how >> 1 & 3); /* floats have 2, 4 or 8 bytes */
    form f = {bytes, rotate, !rotate && how & 8, how & 16};
    reader r = guarded_input(0, start.at, reader_left(&start), size & 1);
    uint8_t *out = guarded(1, n * bytes, ~n & 1), *other = guarded(2, n * bytes, n & 1);
    planes_decoder *d = (planes_decoder *)(void *)guarded(3, sizeof *d, false);
    int status = decode(d, r, n, f, SZD_ISA_SCALAR, out);
    for (uint32_t isa = SZD_ISA_AVX2; isa <= best_isa(); isa++) {
        CHECK(decode(d, r, n, f, isa, other) == status);
        CHECK(status || memcmp(out, other, n * bytes) == 0);
    }
    return 0;
}

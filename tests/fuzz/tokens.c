/* Residuals in any form: direct, dominant, palette, mixed (FORMAT.md, section 6, step 4). */
#include "fuzz.h"

static int decode(token_decoder *d, reader r, size_t n, token_rows rows, uint32_t isa, int32_t *out)
{
    size_t need = symbols_decode_scratch(n), mixing = rows.mixed ? mix_scratch(rows.width) + 64 : 0;
    need = (need > mixing ? need : mixing) + 64;
    uint8_t *scratch = guarded(4, need, n & 1);
    memset(scratch, isa == SZD_ISA_SCALAR ? 0 : 0xa5, need);
    int status = tokens_begin(d, &r, n, rows, isa, aligned64(scratch));
    if (status == SZD_OK)
        status = tokens_decode(d, out, n, isa);
    return status ? status : tokens_finished(d) ? SZD_OK : SZD_BLOCK_CODES;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reader start = {data, data + size, false};
    size_t n = 1 + any_u16(&start) % 20000;
    token_rows rows = {read_u8(&start) & 1, any_u16(&start), any_u16(&start)};
    rows.phase = rows.width ? rows.phase % rows.width : 0;
    reader r = guarded_input(0, start.at, reader_left(&start), size & 1);
    int32_t *out = (int32_t *)(void *)guarded(1, 4 * n, false), *other = (int32_t *)(void *)guarded(2, 4 * n, true);
    token_decoder *d = (token_decoder *)(void *)guarded(3, sizeof *d, false);
    int status = decode(d, r, n, rows, SZD_ISA_SCALAR, out);
    for (uint32_t isa = SZD_ISA_AVX2; isa <= best_isa(); isa++) {
        CHECK(decode(d, r, n, rows, isa, other) == status);
        CHECK(status || memcmp(out, other, 4 * n) == 0);
    }
    return 0;
}

/* A symbol stream by whichever coder it says, row and column classes and sparse ones too (FORMAT.md, section 4). */
#include "fuzz.h"

static bool decode(symbol_decoder *d, reader r, size_t n, uint32_t isa, bool composite, uint8_t *out)
{
    uint8_t *scratch = composite ? guarded(4, symbols_decode_scratch(n), n & 1) : NULL;
    if (scratch)
        memset(scratch, isa == SZD_ISA_SCALAR ? 0 : 0xa5, symbols_decode_scratch(n));
    return symbols_begin(d, &r, n, isa, scratch) == SZD_OK && symbols_decode(d, out, n, isa) && symbols_finished(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reader start = {data, data + size, false};
    size_t n = any_u16(&start);
    unsigned how = read_u8(&start);
    n *= how & 2 ? 5 : 1; /* beyond what composite streams allow, too */
    reader r = guarded_input(0, start.at, reader_left(&start), size & 1);
    uint8_t *out = guarded(1, n, ~n & 1), *other = guarded(2, n, n & 1);
    symbol_decoder *d = (symbol_decoder *)(void *)guarded(3, sizeof *d, false);
    bool good = decode(d, r, n, SZD_ISA_SCALAR, how & 1, out);
    for (uint32_t isa = SZD_ISA_AVX2; isa <= best_isa(); isa++) {
        CHECK(decode(d, r, n, isa, how & 1, other) == good);
        CHECK(!good || memcmp(out, other, n) == 0);
    }
    return 0;
}

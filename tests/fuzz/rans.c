/* A frequency table and an interleaved rANS payload (FORMAT.md, section 4, coder 3), drawn in pieces of any length. */
#include "fuzz.h"

static bool decode(rans_decoder *d, const freq_table *t, unsigned lanes_log2, reader r, size_t n, size_t cut,
                   uint32_t isa, uint8_t *out)
{
    if (!rans_begin(d, lanes_log2, r.at, reader_left(&r)))
        return false;
    rans_use(d, t);
    return rans_decode(d, out, cut, isa) && rans_decode(d, out + cut, n - cut, isa) && rans_finished(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reader start = {data, data + size, false};
    size_t n = any_u16(&start), cut = any_u16(&start) % (n + 1);
    unsigned lanes_log2 = read_u8(&start) % (RANS_LANES_LOG2 + 1);
    reader r = guarded_input(0, start.at, reader_left(&start), size & 1);
    uint8_t *out = guarded(1, n, ~n & 1), *other = guarded(2, n, n & 1);
    rans_decoder *d = (rans_decoder *)(void *)guarded(3, sizeof *d, false);
    freq_table *t = (freq_table *)(void *)guarded(4, sizeof *t, false);
    if (!freqs_read(&r, FIRST_TOP, t))
        return 0;
    (void)read_varint(&r); /* the payload's size, of which the decoder takes what there is */
    uint32_t sum = 0;
    for (unsigned s = 0; s < 256; s++)
        sum += s >= t->lo && s <= t->hi ? t->f[s] : 0;
    CHECK(sum == PROB_SUM);
    bool good = decode(d, t, lanes_log2, r, n, cut, SZD_ISA_SCALAR, out);
    for (uint32_t isa = SZD_ISA_AVX2; isa <= best_isa(); isa++) {
        CHECK(decode(d, t, lanes_log2, r, n, cut, isa, other) == good);
        CHECK(!good || memcmp(out, other, n) == 0);
    }
    return 0;
}

/* A length table and a payload of canonical Huffman codes (FORMAT.md, section 4, coder 2). */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reader start = {data, data + size, false};
    size_t n = any_u16(&start);
    reader r = guarded_input(0, start.at, reader_left(&start), size & 1);
    uint8_t lengths[256], *out = guarded(1, n, ~n & 1);
    huffman_decoder *d = (huffman_decoder *)(void *)guarded(2, sizeof *d, false);
    if (!huffman_read_lengths(&r, lengths))
        return 0;
    huffman_begin(d, lengths, r.at, reader_left(&r));
    if (!huffman_decode(d, out, n) || !huffman_finished(d))
        return 0;
    /* What was accepted is what the encoder writes for these symbols and this table. */
    uint8_t *again = guarded(3, reader_left(&r), false);
    writer w = {again, again + reader_left(&r), false};
    huffman_encode(out, n, SYMBOLS_AS_THEY_ARE, lengths, &w);
    CHECK(!w.failed && w.at == w.end && memcmp(again, r.at, reader_left(&r)) == 0);
    return 0;
}

/* Huffman's code by itself, for comparing published methods: a stream is its kind (one byte), then either the one
 * symbol that all are, or the code lengths and the codes. No symbols take no bytes. */
#include "internal.h"

enum { KIND_CONSTANT = 0, KIND_CODES = 1 };

size_t szd_huffman_bound(size_t n)
{
    return 1024 + n + n / 2; /* 1 + 2 + 256 lengths of at most 25 bits, 12 bits each */
}

int szd_huffman_encode(const uint8_t *symbols, size_t n, uint8_t *out, size_t capacity, size_t *size)
{
    writer w = {out, out + capacity, false};
    *size = 0;
    if (n > UINT32_MAX)
        return SZD_ARGUMENT;
    if (n == 0)
        return SZD_OK;
    uint32_t counts[256];
    histogram_u8(symbols, n, counts);
    if (counts[symbols[0]] == n) {
        write_u8(&w, KIND_CONSTANT);
        write_u8(&w, symbols[0]);
    } else {
        uint8_t lengths[256];
        huffman_fit(counts, lengths);
        write_u8(&w, KIND_CODES);
        huffman_write_lengths(lengths, &w);
        huffman_encode(symbols, n, lengths, &w);
    }
    *size = (size_t)(w.at - out);
    return w.failed ? SZD_BUFFER_TOO_SMALL : SZD_OK;
}

static int decode_codes(reader *r, uint8_t *out, size_t n)
{
    uint8_t lengths[256];
    huffman_decoder d;
    if (!huffman_read_lengths(r, lengths))
        return SZD_BLOCK_TABLE;
    huffman_begin(&d, lengths, r->at, reader_left(r));
    return huffman_decode(&d, out, n) && huffman_finished(&d) ? SZD_OK : SZD_BLOCK_CODES;
}

int szd_huffman_decode(const uint8_t *data, size_t size, uint8_t *out, size_t n)
{
    reader r = {data, data + size, false};
    if (n == 0)
        return size ? SZD_BLOCK_TRAILING : SZD_OK;
    unsigned kind = read_u8(&r);
    if (r.failed || kind > KIND_CODES)
        return SZD_BLOCK_CODES;
    if (kind == KIND_CODES)
        return decode_codes(&r, out, n);
    unsigned symbol = read_u8(&r);
    if (r.failed || reader_left(&r))
        return SZD_BLOCK_CODES;
    memset(out, (int)symbol, n);
    return SZD_OK;
}

/* A stream of bytes by whichever coder is smallest (FORMAT.md, section 4). */
#include "internal.h"

enum { STREAM_CONSTANT = 0, STREAM_RAW = 1, STREAM_HUFFMAN = SZD_CODER_HUFFMAN, STREAM_RANS = SZD_CODER_RANS };
enum { SMALL_STREAM = 8192 }; /* below this many symbols, whether Huffman's smaller table pays is worked out */

/* rANS writes its words backwards from the end of this: at most 12 bits a symbol, and one word too many. */
size_t symbols_scratch(size_t n) { return 2 * n + 64; }

static bool one_symbol(const uint32_t counts[256], uint8_t first, size_t n) { return counts[first] == n; }

/* Bytes of the stream by rANS, its tables and lanes counted; bits rounded up. */
static uint64_t rans_size(const uint32_t counts[256], const freq_table *t, unsigned *lanes_log2)
{
    uint64_t bits = freqs_cost_bits(counts, t);
    *lanes_log2 = rans_lanes_log2(bits);
    return bits / 8 + (4u << *lanes_log2) + 3;
}

/* The payload's length is not known until it is written: leave the longest varint's room, then close up. */
static void close_payload(writer *w, uint8_t *room, unsigned reserved)
{
    if (w->failed)
        return;
    size_t size = (size_t)(w->at - room) - reserved;
    unsigned used = varint_size(size);
    memmove(room + used, room + reserved, size);
    writer head = {room, room + used, false};
    write_varint(&head, size);
    w->at = room + used + size;
}

static void write_rans(const uint8_t *symbols, size_t n, const freq_table *t, unsigned lanes_log2, uint32_t isa,
                       uint8_t *scratch, writer *w)
{
    write_u8(w, STREAM_RANS);
    freqs_write(t, w);
    write_u8(w, lanes_log2);
    uint8_t *room = write_room(w, 5);
    rans_encode(symbols, n, t, lanes_log2, isa, scratch, w);
    close_payload(w, room, 5);
}

static void write_huffman(const uint8_t *symbols, size_t n, const uint8_t lengths[256], writer *w)
{
    write_u8(w, STREAM_HUFFMAN);
    huffman_write_lengths(lengths, w);
    uint8_t *room = write_room(w, 5);
    huffman_encode(symbols, n, lengths, w);
    close_payload(w, room, 5);
}

static void write_raw(const uint8_t *symbols, size_t n, writer *w)
{
    write_u8(w, STREAM_RAW);
    write_bytes(w, symbols, n);
}

void symbols_encode(const uint8_t *symbols, size_t n, const uint32_t counts[256], uint32_t coder, uint32_t isa,
                    uint8_t *scratch, writer *w)
{
    if (n == 0)
        return;
    if (one_symbol(counts, symbols[0], n)) {
        write_u8(w, STREAM_CONSTANT);
        write_u8(w, symbols[0]);
        return;
    }
    uint8_t lengths[256];
    uint64_t huffman_bytes = UINT64_MAX, rans_bytes = UINT64_MAX;
    if (coder == SZD_CODER_HUFFMAN || (coder == SZD_CODER_AUTO && n < SMALL_STREAM)) {
        huffman_fit(counts, lengths);
        huffman_bytes = huffman_cost_bits(counts, lengths) / 8 + 3;
    }
    freq_table t;
    unsigned lanes_log2 = 0;
    if (coder != SZD_CODER_HUFFMAN) {
        freqs_fit(counts, n, &t);
        rans_bytes = rans_size(counts, &t, &lanes_log2);
    }
    writer start = *w;
    if ((rans_bytes < huffman_bytes ? rans_bytes : huffman_bytes) >= n)
        write_raw(symbols, n, w);
    else if (rans_bytes < huffman_bytes)
        write_rans(symbols, n, &t, lanes_log2, isa, scratch, w);
    else
        write_huffman(symbols, n, lengths, w);
    if (w->failed || (size_t)(w->at - start.at) > n + 1) { /* the estimate was too low */
        *w = start;
        write_raw(symbols, n, w);
    }
}

static int begin_rans(symbol_decoder *d, reader *r)
{
    freq_table t;
    if (!freqs_read(r, &t))
        return r->at == r->end ? SZD_BLOCK_SHORT : SZD_BLOCK_TABLE;
    unsigned lanes_log2 = read_u8(r);
    uint64_t size = read_varint(r);
    const uint8_t *payload = read_bytes(r, size);
    if (!payload)
        return SZD_BLOCK_SHORT;
    return lanes_log2 <= 5 && rans_begin(&d->u.rans, &t, lanes_log2, payload, size) ? SZD_OK : SZD_BLOCK_CODES;
}

static int begin_huffman(symbol_decoder *d, reader *r)
{
    uint8_t lengths[256];
    if (!huffman_read_lengths(r, lengths))
        return r->at == r->end ? SZD_BLOCK_SHORT : SZD_BLOCK_TABLE;
    uint64_t size = read_varint(r);
    const uint8_t *payload = read_bytes(r, size);
    if (!payload)
        return SZD_BLOCK_SHORT;
    huffman_begin(&d->u.huffman, lengths, payload, size);
    return SZD_OK;
}

int symbols_begin(symbol_decoder *d, reader *r, size_t n)
{
    d->coder = STREAM_CONSTANT;
    d->constant = 0;
    if (n == 0)
        return SZD_OK;
    d->coder = read_u8(r);
    switch (d->coder) {
    case STREAM_CONSTANT: d->constant = read_u8(r); break;
    case STREAM_RAW: d->raw = read_bytes(r, n); break;
    case STREAM_HUFFMAN: return begin_huffman(d, r);
    case STREAM_RANS: return begin_rans(d, r);
    default: return SZD_BLOCK_CODES;
    }
    return r->failed ? SZD_BLOCK_SHORT : SZD_OK;
}

bool symbols_decode(symbol_decoder *d, uint8_t *out, size_t n, uint32_t isa)
{
    switch (d->coder) {
    case STREAM_CONSTANT: memset(out, d->constant, n); return true;
    case STREAM_RAW:
        memcpy(out, d->raw, n);
        d->raw += n;
        return true;
    case STREAM_HUFFMAN: return huffman_decode(&d->u.huffman, out, n);
    default: return rans_decode(&d->u.rans, out, n, isa);
    }
}

bool symbols_finished(symbol_decoder *d)
{
    switch (d->coder) {
    case STREAM_HUFFMAN: return huffman_finished(&d->u.huffman);
    case STREAM_RANS: return rans_finished(&d->u.rans);
    default: return true;
    }
}

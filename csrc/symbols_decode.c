/* Streams of bytes back (FORMAT.md, section 4). Nothing is trusted. */
#include "symbols.h"

size_t symbols_decode_scratch(size_t n)
{
    size_t most = n < MOST_COMPOSITE ? n : MOST_COMPOSITE, lines = most / LEAST_WIDTH + MOST_WIDTH + 1;
    return 2 * most + CLASS_GAPS + 2 * lines + LEVELS_ROOM + classes_scratch(MOST_WIDTH) + 6 * 64;
}

size_t symbols_unsorted_scratch(size_t n) { return sparse_decode_scratch(n < MOST_COMPOSITE ? n : MOST_COMPOSITE); }

static const uint8_t *read_payload(reader *r)
{
    uint64_t size = read_varint(r);
    return read_bytes(r, size);
}

static int begin_payload(rans_decoder *d, reader *r)
{
    unsigned lanes_log2 = read_u8(r);
    const uint8_t *payload = read_payload(r);
    if (!payload)
        return SZD_BLOCK_SHORT;
    size_t size = (size_t)(r->at - payload);
    return lanes_log2 <= RANS_LANES_LOG2 && rans_begin(d, lanes_log2, payload, size) ? SZD_OK : SZD_BLOCK_CODES;
}

static int read_table(reader *r, uint8_t expected_top, freq_table *t)
{
    if (freqs_read(r, expected_top, t))
        return SZD_OK;
    return r->at == r->end ? SZD_BLOCK_SHORT : SZD_BLOCK_TABLE;
}

static int begin_rans(symbol_decoder *d, reader *r)
{
    freq_table t;
    int status = read_table(r, FIRST_TOP, &t);
    if (status == SZD_OK)
        status = begin_payload(&d->u.rans, r);
    if (status == SZD_OK)
        rans_use(&d->u.rans, &t);
    return status;
}

int symbols_begin_short(symbol_decoder *d, reader *r)
{
    freq_table t;
    int status = read_table(r, FIRST_TOP, &t);
    if (status)
        return status;
    size_t size = reader_left(r);
    d->coder = d->from = STREAM_RANS;
    if (!rans_begin(&d->u.rans, 0, read_bytes(r, size), size))
        return SZD_BLOCK_CODES;
    rans_use(&d->u.rans, &t);
    return SZD_OK;
}

static int begin_huffman(symbol_decoder *d, reader *r)
{
    uint8_t lengths[256];
    if (!huffman_read_lengths(r, lengths))
        return r->at == r->end ? SZD_BLOCK_SHORT : SZD_BLOCK_TABLE;
    const uint8_t *payload = read_payload(r);
    if (!payload)
        return SZD_BLOCK_SHORT;
    huffman_begin(&d->u.huffman, lengths, payload, (size_t)(r->at - payload));
    return SZD_OK;
}

static int begin_plain(symbol_decoder *d, unsigned coder, reader *r, size_t n)
{
    d->coder = d->from = coder;
    switch (coder) {
    case STREAM_CONSTANT: d->constant = read_u8(r); break;
    case STREAM_RAW: d->raw = read_bytes(r, n); break;
    case STREAM_HUFFMAN: return begin_huffman(d, r);
    case STREAM_RANS: return begin_rans(d, r);
    default: return SZD_BLOCK_CODES;
    }
    return r->failed ? SZD_BLOCK_SHORT : SZD_OK;
}

int symbols_decode_list(symbol_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *out)
{
    int status = symbols_begin(d, r, n, isa, NULL);
    if (status)
        return status;
    return symbols_decode(d, out, n, isa) && symbols_finished(d) ? SZD_OK : SZD_BLOCK_CODES;
}

static int decode_levels(symbol_decoder *d, reader *r, class_map *m, uint32_t isa)
{
    int status = SZD_OK;
    memset(m->row_level, 0, m->rows);
    memset(m->column_level, 0, m->width);
    if (m->row_levels > 1)
        status = symbols_decode_list(d, r, m->rows, isa, m->row_level);
    if (status == SZD_OK && m->column_levels > 1)
        status = symbols_decode_list(d, r, m->width, isa, m->column_level);
    return status ? status : classes_valid(m) ? SZD_OK : SZD_BLOCK_CODES;
}

/* The levels, of which the rANS states brought the first bytes and the rest follows. */
static int read_levels(symbol_decoder *d, reader *r, size_t size, class_map *m, uint32_t isa, uint8_t *scratch)
{
    size_t room = 2 * d->u.rans.lanes, carried = size < room ? size : room;
    uint8_t *levels = scratch;
    const uint8_t *rest = read_bytes(r, size - carried);
    if (!rest)
        return SZD_BLOCK_SHORT;
    if (!rans_carried(&d->u.rans, levels))
        return SZD_BLOCK_CODES;
    for (size_t i = carried; i < room; i++)
        if (levels[i])
            return SZD_BLOCK_CODES;
    memcpy(levels + carried, rest, size - carried);
    reader inner = {levels, levels + size, false};
    int status = decode_levels(d, &inner, m, isa);
    return status ? status : reader_left(&inner) ? SZD_BLOCK_CODES : SZD_OK;
}

typedef struct class_tables {
    bool constant[MAX_CLASSES];
    uint8_t symbol[MAX_CLASSES];
    freq_table table[MAX_CLASSES];
} class_tables;

static int read_class_tables(reader *r, size_t count, const size_t *sizes, class_tables *t)
{
    uint8_t top = FIRST_TOP;
    for (size_t k = 0; k < count; k++) {
        if (!sizes[k])
            continue;
        unsigned coder = read_u8(r);
        t->constant[k] = coder == STREAM_CONSTANT;
        if (coder != STREAM_CONSTANT && coder != STREAM_RANS)
            return r->failed ? SZD_BLOCK_SHORT : SZD_BLOCK_CODES;
        t->symbol[k] = t->constant[k] ? read_u8(r) : 0;
        int status = t->constant[k] ? SZD_OK : read_table(r, top, t->table + k);
        if (status || r->failed)
            return status ? status : SZD_BLOCK_SHORT;
        top = t->constant[k] ? top : t->table[k].top;
    }
    return SZD_OK;
}

static int decode_sorted(rans_decoder *d, const class_map *m, const size_t *sizes, const class_tables *t, uint32_t isa,
                         uint8_t *sorted)
{
    for (size_t k = 0; k < class_count(m); sorted += sizes[k] + CLASS_GAP, k++) {
        if (sizes[k] && t->constant[k]) {
            memset(sorted, t->symbol[k], sizes[k]);
        } else if (sizes[k]) {
            rans_use(d, t->table + k);
            if (!rans_decode(d, sorted, sizes[k], isa))
                return SZD_BLOCK_CODES;
        }
    }
    return SZD_OK;
}

static bool read_counts(bit_reader *b, size_t total, unsigned levels, size_t *counts)
{
    for (unsigned l = 0; l + 1 < levels; l++) {
        uint64_t count = get_exp_golomb(b, COUNT_ORDER);
        if (b->failed || count > total)
            return false;
        counts[l] = (size_t)count;
        total -= (size_t)count;
    }
    counts[levels - 1] = total;
    return true;
}

static bool read_level_counts(reader *r, class_map *m)
{
    bit_reader b = {r->at, r->end, 0, 0, false};
    bool ok = read_counts(&b, m->rows, m->row_levels, m->rows_of) &&
              read_counts(&b, m->width, m->column_levels, m->columns_of);
    r->at = end_bits(&b);
    return ok && !b.failed;
}

static int decode_classes(symbol_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *scratch, uint8_t *out)
{
    uint64_t width = read_varint(r);
    unsigned levels = read_u8(r);
    uint64_t levels_size = read_varint(r);
    if (r->failed)
        return SZD_BLOCK_SHORT;
    if (width < LEAST_WIDTH || width > MOST_WIDTH || width > n || n % width || levels == 0 || levels & 0x88)
        return SZD_BLOCK_CODES;
    class_map m = {.width = (size_t)width, .rows = n / (size_t)width};
    m.row_levels = (levels & 7) + 1;
    m.column_levels = (levels >> 4) + 1;
    if (levels_size > m.rows + m.width + LEVELS_ROOM)
        return SZD_BLOCK_CODES;
    uint8_t *sorted = take(&scratch, n + CLASS_GAPS);
    m.row_level = take(&scratch, m.rows + m.width);
    m.column_level = m.row_level + m.rows;
    size_t sizes[MAX_CLASSES];
    class_tables t;
    if (!read_level_counts(r, &m))
        return r->at == r->end ? SZD_BLOCK_SHORT : SZD_BLOCK_CODES;
    classes_sizes(&m, sizes);
    int status = read_class_tables(r, class_count(&m), sizes, &t);
    if (status == SZD_OK)
        status = begin_payload(&d->u.rans, r);
    if (status == SZD_OK)
        status = decode_sorted(&d->u.rans, &m, sizes, &t, isa, sorted);
    if (status == SZD_OK)
        status = read_levels(d, r, (size_t)levels_size, &m, isa, aligned64(scratch));
    if (status)
        return status;
    classes_merge(&m, sorted, out, isa, aligned64(scratch));
    return SZD_OK;
}

int symbols_begin(symbol_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *scratch)
{
    d->coder = d->from = STREAM_CONSTANT;
    d->constant = 0;
    if (n == 0)
        return SZD_OK;
    unsigned coder = read_u8(r);
    if (r->failed)
        return SZD_BLOCK_SHORT;
    if (coder < STREAM_CLASSES)
        return begin_plain(d, coder, r, n);
    if (!scratch || n > MOST_COMPOSITE)
        return SZD_BLOCK_CODES;
    if (coder == STREAM_SPARSE) {
        int status = sparse_begin(d, r, n, isa, scratch);
        d->coder = d->from = STREAM_SPARSE;
        return status;
    }
    if (coder != STREAM_CLASSES || (n > LONG_COMPOSITE && reader_left(r) < LEAST_LONG_BYTES))
        return SZD_BLOCK_CODES;
    uint8_t *out = take(&scratch, n); /* first: the caller uses what follows for something else afterwards */
    int status = decode_classes(d, r, n, isa, scratch, out);
    d->coder = coder;
    d->from = STREAM_RAW;
    d->raw = out;
    return status;
}

int symbols_begin_unsorted(symbol_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *scratch)
{
    bool sorted = n && r->at < r->end && *r->at == STREAM_CLASSES;
    return sorted ? SZD_BLOCK_CODES : symbols_begin(d, r, n, isa, scratch);
}

bool symbols_decode(symbol_decoder *d, uint8_t *out, size_t n, uint32_t isa)
{
    switch (d->from) {
    case STREAM_CONSTANT: memset(out, d->constant, n); return true;
    case STREAM_RAW:
        memcpy(out, d->raw, n);
        d->raw += n;
        return true;
    case STREAM_HUFFMAN: return huffman_decode(&d->u.huffman, out, n);
    case STREAM_SPARSE: sparse_decode(d, out, n); return true;
    default: return rans_decode(&d->u.rans, out, n, isa);
    }
}

/* The next n symbols where they lie or in `buffer`; NULL when they are damaged. */
const uint8_t *symbols_next(symbol_decoder *d, uint8_t *buffer, size_t n, uint32_t isa)
{
    if (d->from != STREAM_RAW)
        return symbols_decode(d, buffer, n, isa) ? buffer : NULL;
    d->raw += n;
    return d->raw - n;
}

bool symbols_finished(symbol_decoder *d)
{
    switch (d->from) {
    case STREAM_HUFFMAN: return huffman_finished(&d->u.huffman);
    case STREAM_RANS: return rans_finished(&d->u.rans);
    default: return true;
    }
}

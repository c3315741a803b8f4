/* A stream of bytes by whichever coder is smallest (FORMAT.md, section 4). Plain streams have one table; composite ones
 * sort their symbols by class first. */
#include "symbols.h"

enum {
    SMALL_STREAM = 8192, /* below this many symbols, bytes count more than time: one lane, more kinds of tables tried */
    LEAST_COMPOSITE = 512,
    SPARSE_MAY_COST = 128,
    SHORT_SAVES = 8 /* what a short block of a plain stream takes less */
};

/* rANS writes its words backwards from the end of its part: at most 12 bits a symbol, and one word too many. */
static size_t rans_scratch(size_t n) { return 2 * n + 64; }

/* Of a composite stream: the sorted symbols, sums and levels of rows and columns, the order of the columns. */
size_t symbols_scratch(size_t n)
{
    size_t lines = n / LEAST_WIDTH + MOST_WIDTH + 1;
    return rans_scratch(n) + n + CLASS_GAPS + 6 * lines + LEVELS_ROOM + classes_scratch(MOST_WIDTH) +
           sparse_scratch(n) + 8 * 64;
}

void symbols_plan(const uint32_t counts[256], size_t n, uint32_t coder, plain_plan *p)
{
    unsigned first = 0;
    if (n == 0) {
        *p = (plain_plan){.bytes = 0};
        return;
    }
    while (!counts[first])
        first++;
    *p = (plain_plan){.coder = STREAM_RAW, .bytes = n + 1};
    if (counts[first] == n) {
        p->coder = STREAM_CONSTANT;
        p->bytes = 2;
        p->table.lo = (uint8_t)first;
        return;
    }
    if (coder != SZD_CODER_HUFFMAN) {
        uint64_t bits = freqs_fit(counts, n, true, &p->table);
        p->lanes_log2 = n < SMALL_STREAM ? 0 : rans_lanes_log2(bits);
        uint64_t bytes = bits / 8 + (7u << p->lanes_log2 >> 1) + 3;
        if (bytes < p->bytes) {
            p->coder = STREAM_RANS;
            p->bytes = bytes;
        }
    }
    if (coder == SZD_CODER_HUFFMAN ||
        (coder == SZD_CODER_AUTO && n < SMALL_STREAM && huffman_floor_bits(counts, n) / 8 + 3 < p->bytes)) {
        huffman_fit(counts, p->lengths);
        uint64_t bytes = huffman_cost_bits(counts, p->lengths) / 8 + 3;
        if (bytes < p->bytes) {
            p->coder = STREAM_HUFFMAN;
            p->bytes = bytes;
        }
    }
}

static void write_rans(const rans_segment *segments, size_t count, size_t n, unsigned lanes_log2, const uint8_t *carry,
                       uint32_t isa, uint8_t *scratch, writer *w)
{
    write_u8(w, lanes_log2);
    rans_encode(segments, count, lanes_log2, carry, isa, scratch, rans_scratch(n), w);
}

/* The payload's length is not known until it is written: leave the longest varint's room, then close up. */
static void write_huffman(const rans_segment *s, const uint8_t lengths[256], writer *w)
{
    enum { ROOM = 5 };
    huffman_write_lengths(lengths, w);
    uint8_t *room = write_room(w, ROOM);
    huffman_encode(s->symbols, s->n, s->map, lengths, w);
    if (w->failed)
        return;
    size_t size = (size_t)(w->at - room) - ROOM;
    unsigned used = varint_size(size);
    memmove(room + used, room + ROOM, size);
    writer head = {room, room + used, false};
    write_varint(&head, size);
    w->at = room + used + size;
}

static void write_raw(const rans_segment *s, writer *w)
{
    write_u8(w, STREAM_RAW);
    uint8_t *room = write_room(w, s->n);
    for (size_t i = 0; room && i < s->n; i++)
        room[i] = mapped(s->map, s->symbols[i]);
}

/* Raw instead where what was written since `start` takes more: the estimate was too low. */
static void or_raw(const rans_segment *s, writer start, writer *w)
{
    if (!w->failed && (size_t)(w->at - start.at) <= s->n + 1)
        return;
    *w = start;
    write_raw(s, w);
}

static void write_plain(const rans_segment *s, const plain_plan *p, uint32_t isa, uint8_t *scratch, writer *w)
{
    writer start = *w;
    if (p->coder == STREAM_RAW) {
        write_raw(s, w);
        return;
    }
    write_u8(w, p->coder);
    if (p->coder == STREAM_CONSTANT) {
        write_u8(w, p->table.lo);
    } else if (p->coder == STREAM_RANS) {
        freqs_write(&p->table, FIRST_TOP, w);
        write_rans(s, 1, s->n, p->lanes_log2, NULL, isa, scratch, w);
    } else {
        write_huffman(s, p->lengths, w);
    }
    or_raw(s, start, w);
}

void symbols_write(const uint8_t *symbols, size_t n, const plain_plan *p, uint32_t isa, uint8_t *scratch, writer *w)
{
    if (n)
        write_plain(&(rans_segment){symbols, n, SYMBOLS_AS_THEY_ARE, &p->table}, p, isa, scratch, w);
}

void symbols_encode(const uint8_t *symbols, size_t n, const uint32_t counts[256], uint32_t coder, uint32_t isa,
                    uint8_t *scratch, writer *w)
{
    plain_plan plain;
    symbols_plan(counts, n, coder, &plain);
    symbols_write(symbols, n, &plain, isa, scratch, w);
}

static void encode_levels_of(const uint8_t *levels, size_t n, uint32_t isa, uint8_t *scratch, writer *w)
{
    uint32_t counts[256];
    histogram_u8(levels, n, isa, counts);
    symbols_encode(levels, n, counts, SZD_CODER_AUTO, isa, scratch, w);
}

/* How the class part of a stream is to be coded. */
typedef struct class_plan {
    plain_plan parts[MAX_CLASSES]; /* of the classes that are not empty: constant or rANS */
    uint8_t *levels;               /* the streams of rows' and columns' levels */
    size_t levels_size;
    unsigned lanes_log2;
    uint64_t bytes;
} class_plan;

/* Sorts by class where rows and columns differ; counts. */
void symbols_count(symbol_counts *c, const uint8_t *symbols, size_t n, size_t width, unsigned zero, uint32_t isa,
                   uint8_t *scratch)
{
    scratch += rans_scratch(n);
    c->n = n;
    c->symbols = symbols;
    c->coded = SYMBOLS_AS_THEY_ARE;
    c->classes = 0;
    c->may_be_sparse = width > 0;
    if (n >= LEAST_COMPOSITE && n <= MOST_COMPOSITE && width >= LEAST_WIDTH && width <= MOST_WIDTH && n % width == 0) {
        size_t rows = n / width, lines = rows + width;
        c->sorted = take(&scratch, n + CLASS_GAPS);
        uint32_t *sums = take(&scratch, lines * 4);
        c->map.row_level = take(&scratch, lines);
        c->map.column_level = c->map.row_level + rows;
        if (classes_choose(symbols, rows, width, zero, isa, sums, &c->map)) {
            classes_sizes(&c->map, c->sizes);
            classes_split(&c->map, symbols, c->sorted, isa, aligned64(scratch));
            c->classes = (unsigned)class_count(&c->map);
        }
    }
    c->rest = scratch;
    if (!c->classes) {
        histogram_u8(symbols, n, isa, c->all);
        return;
    }
    memset(c->all, 0, sizeof c->all);
    const uint8_t *part = c->sorted;
    for (unsigned k = 0; k < c->classes; part += c->sizes[k] + CLASS_GAP, k++) {
        histogram_u8(part, c->sizes[k], isa, c->of[k]);
        for (unsigned s = 0; s < 256; s++)
            c->all[s] += c->of[k][s];
    }
}

static void narrow_counts(uint32_t counts[256], symbol_map map)
{
    uint32_t narrow[256] = {0};
    for (unsigned s = 0; s < 256; s++)
        narrow[mapped(map, s)] += counts[s];
    memcpy(counts, narrow, sizeof narrow);
}

/* What is to be coded instead of the symbols. */
void symbols_narrow(symbol_counts *c, symbol_map map)
{
    c->coded = map;
    narrow_counts(c->all, map);
    for (unsigned k = 0; k < c->classes; k++)
        narrow_counts(c->of[k], map);
}

/* A class's table whatever it costs: its symbols share a stream with the others. */
static uint64_t plan_class(const uint32_t counts[256], size_t n, bool may_model, plain_plan *p)
{
    unsigned first = 0;
    while (!counts[first])
        first++;
    if (counts[first] == n) {
        p->coder = STREAM_CONSTANT;
        p->table.lo = (uint8_t)first;
        return 16;
    }
    p->coder = STREAM_RANS;
    return freqs_fit(counts, n, may_model, &p->table) + 8 + 4;
}

/* The levels' streams; false where the buffer is too small for them. */
static bool encode_levels(const class_map *m, class_plan *p, uint32_t isa, uint8_t *scratch, size_t capacity)
{
    writer w = {p->levels, p->levels + capacity, false};
    if (m->row_levels > 1)
        encode_levels_of(m->row_level, m->rows, isa, scratch, &w);
    if (m->column_levels > 1)
        encode_levels_of(m->column_level, m->width, isa, scratch, &w);
    p->levels_size = (size_t)(w.at - p->levels);
    return !w.failed;
}

/* Lanes that bring levels along cost next to nothing. */
static unsigned class_lanes(uint64_t bits, size_t levels_size)
{
    unsigned alone = rans_lanes_log2(bits), log2 = RANS_LANES_LOG2;
    while (log2 > alone && (bits < (uint64_t)(log2 == 6 ? 6200 : 2600) << log2 || levels_size < (size_t)2 << log2))
        log2--;
    return log2;
}

/* How many bytes of the levels the end states bring along. */
static size_t carried_bytes(const class_plan *p)
{
    size_t room = (size_t)2 << p->lanes_log2;
    return p->levels_size < room ? p->levels_size : room;
}

/* False where classes do not pay. */
static bool plan_classes(const symbol_counts *c, uint32_t isa, uint64_t limit, uint8_t *scratch, class_plan *p)
{
    uint64_t bits = 0;
    for (unsigned k = 0; k < c->classes; k++)
        bits += c->sizes[k] ? plan_class(c->of[k], c->sizes[k], c->n <= SMALL_STREAM, p->parts + k) : 0;
    if (!c->classes || bits / 8 >= limit)
        return false;
    size_t room = c->map.rows + c->map.width + LEVELS_ROOM;
    p->levels = c->rest;
    if (!encode_levels(&c->map, p, isa, scratch, room))
        return false;
    p->lanes_log2 = class_lanes(bits, p->levels_size);
    p->bytes = bits / 8 + (7u << p->lanes_log2 >> 1) + 18 + p->levels_size - carried_bytes(p);
    return p->bytes < limit && (c->n <= LONG_COMPOSITE || p->bytes > 2 * LEAST_LONG_BYTES);
}

/* How many rows and columns there are of each level but the last. */
static void write_level_counts(const class_map *m, writer *w)
{
    bit_writer b = {w, 0, 0};
    for (unsigned l = 0; l + 1 < m->row_levels; l++)
        put_exp_golomb(&b, m->rows_of[l], COUNT_ORDER);
    for (unsigned l = 0; l + 1 < m->column_levels; l++)
        put_exp_golomb(&b, m->columns_of[l], COUNT_ORDER);
    flush_bits(&b);
}

static void write_classes(const symbol_counts *c, const class_plan *p, uint32_t isa, uint8_t *scratch, writer *w)
{
    const class_map *m = &c->map;
    rans_segment segments[MAX_CLASSES];
    size_t count = 0;
    uint8_t top = FIRST_TOP;
    const uint8_t *part = c->sorted;
    write_u8(w, STREAM_CLASSES);
    write_varint(w, m->width);
    write_u8(w, (m->row_levels - 1) | (m->column_levels - 1) << 4);
    write_varint(w, p->levels_size);
    write_level_counts(m, w);
    for (size_t k = 0; k < class_count(m); part += c->sizes[k] + CLASS_GAP, k++) {
        if (!c->sizes[k])
            continue;
        write_u8(w, p->parts[k].coder);
        if (p->parts[k].coder == STREAM_CONSTANT) {
            write_u8(w, p->parts[k].table.lo);
        } else {
            freqs_write(&p->parts[k].table, top, w);
            top = p->parts[k].table.top;
            segments[count++] = (rans_segment){part, c->sizes[k], c->coded, &p->parts[k].table};
        }
    }
    uint8_t carry[2 << RANS_LANES_LOG2] = {0};
    size_t carried = carried_bytes(p);
    memcpy(carry, p->levels, carried);
    write_rans(segments, count, c->n, p->lanes_log2, carry, isa, scratch, w);
    write_bytes(w, p->levels + carried, p->levels_size - carried);
}

void symbols_encode_counted(const symbol_counts *c, uint32_t coder, uint32_t isa, uint8_t *scratch, writer *w)
{
    plain_plan plain;
    class_plan classes;
    symbols_plan(c->all, c->n, coder, &plain);
    const rans_segment all = {c->symbols, c->n, c->coded, &plain.table};
    bool composite = coder != SZD_CODER_HUFFMAN && plain.coder != STREAM_CONSTANT;
    uint64_t limit = plain.bytes - plain.bytes / 512; /* not for next to nothing */
    writer start = *w;
    bool by_classes = composite && plan_classes(c, isa, limit, scratch, &classes);
    uint64_t best = by_classes ? classes.bytes : plain.bytes, saved = c->n <= MOST_SHORT ? SHORT_SAVES : 0;
    best += best / SPARSE_MAY_COST;                                   /* it is several times as fast */
    uint8_t *room = c->rest + (by_classes ? classes.levels_size : 0); /* after the levels */
    bool sparse =
        c->may_be_sparse && composite && best > saved && sparse_encode(c, best - saved, isa, room, scratch, w);
    if (!sparse && by_classes)
        write_classes(c, &classes, isa, scratch, w);
    else if (!sparse)
        write_plain(&all, &plain, isa, scratch, w);
    or_raw(&all, start, w);
}

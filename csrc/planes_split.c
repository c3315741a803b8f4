/* The split form (FORMAT.md, section 5.2): symbols for the exponent and the mantissa's top bits, all else raw, segment
 * by segment without the low bits that are zero throughout. */
#include "planes.h"
#include "symbols.h"

/* ---- encoding ---- */

typedef struct escape_list {
    size_t count, most;
    uint32_t *positions;
    uint16_t *tops;
} escape_list;

/* False when they are too many. */
static bool collect_escapes(const split_form *f, const uint8_t *elements, const uint8_t *symbols, size_t n,
                            size_t first, escape_list *list)
{
    const uint64_t magnitude = ((uint64_t)1 << (8 * f->bytes - 1)) - 1;
    const uint8_t *end = symbols + n;
    for (const uint8_t *s = symbols; (s = memchr(s, f->is_sparse, (size_t)(end - s))); s++) {
        size_t i = (size_t)(s - symbols);
        uint64_t t = (load_element(elements + i * f->bytes, f->bytes) & magnitude) >> f->low;
        if (t == 0)
            continue;
        if (list->count == list->most)
            return false;
        list->positions[list->count] = (uint32_t)(first + i);
        list->tops[list->count++] = (uint16_t)t;
    }
    return true;
}

static void write_zero_bits(const split_form *f, const segment_look *looks, size_t segments, uint8_t *zeros,
                            uint32_t coder, uint32_t isa, uint8_t *scratch, writer *w)
{
    uint32_t counts[256];
    for (size_t k = 0; k < segments; k++)
        zeros[k] = (uint8_t)zero_bits(looks[k].any, f);
    histogram_u8(zeros, segments, isa, counts);
    symbols_encode(zeros, segments, counts, coder, isa, scratch, w);
}

/* Symbols, low numbers and escapes of all segments; false when there are too many escapes or no room. */
static bool split_all(const split_form *f, const segment_look *looks, const uint8_t *zeros, const uint8_t *elements,
                      size_t n, uint32_t isa, uint8_t *symbols, escape_list *escapes, writer *w)
{
    const unsigned width = f->low - f->tail + f->has_signs;
    uint64_t size = 0;
    for (size_t k = 0, done = 0; done < n; k++, done += SEGMENT) {
        size_t part = n - done < SEGMENT ? n - done : SEGMENT;
        size += packed_bytes(f->is_sparse ? looks[k].nonzero : part, width - zeros[k]);
    }
    write_varint(w, size);
    uint8_t *raw = write_room(w, size), kept[SEGMENT * 8 + SPARE];
    if (!raw)
        return false;
    for (size_t k = 0, done = 0; done < n; k++, done += SEGMENT) {
        const uint8_t *from = elements + done * f->bytes;
        size_t part = n - done < SEGMENT ? n - done : SEGMENT, count = part;
        if (split_symbols(f, from, part, isa, symbols + done) &&
            !collect_escapes(f, from, symbols + done, part, done, escapes))
            return false;
        if (f->is_sparse) {
            count = leave_out_zeros(from, part, f->bytes, isa, kept);
            from = kept;
        }
        split_low_bits(f, from, count, f->tail + zeros[k], isa, raw);
        raw += packed_bytes(count, width - zeros[k]);
    }
    return true;
}

static void write_escapes(escape_list *list, writer *w)
{
    write_varint(w, list->count);
    if (!list->count)
        return;
    write_exp_golomb_list(gaps_of_positions(list->positions, list->count), list->count, w);
    uint8_t *tops = write_room(w, 2 * (uint64_t)list->count);
    for (size_t i = 0; tops && i < list->count; i++)
        store_u16(tops + 2 * i, list->tops[i]);
}

static void write_tails(const split_form *f, const uint8_t *elements, size_t n, uint32_t coder, uint32_t isa,
                        uint8_t *scratch, writer *w)
{
    uint32_t counts[256];
    uint8_t *tails = take(&scratch, n);
    extract_plane(elements, 0, n, f->bytes, 0, false, false, isa, tails);
    for (size_t i = 0; i < n; i++)
        tails[i] &= (uint8_t)((1u << f->tail) - 1);
    histogram_u8(tails, n, isa, counts);
    symbols_encode(tails, n, counts, coder, isa, aligned64(scratch), w);
}

static size_t most_escapes(size_t n) { return n / ESCAPE_SHARE + 1; }

size_t split_scratch(size_t n)
{
    size_t lists = most_escapes(n) * (sizeof(uint32_t) + sizeof(uint16_t)), coding = symbols_scratch(n);
    return 2 * n + segments_of(n) + (lists > coding ? lists : coding) + 5 * 64;
}

/* False when there are too many escapes; what was written is to be dropped then. */
bool split_encode(const split_form *f, const segment_look *looks, const uint8_t *elements, size_t n, size_t width,
                  uint32_t coder, uint32_t isa, uint8_t *scratch, writer *w)
{
    symbol_counts counts;
    uint8_t *symbols = take(&scratch, n), *zeros = take(&scratch, segments_of(n)), *rest = aligned64(scratch);
    uint32_t *positions = take(&scratch, most_escapes(n) * sizeof *positions);
    escape_list escapes = {0, most_escapes(n), positions, take(&scratch, most_escapes(n) * sizeof(uint16_t))};
    write_u8(w, FORM_SPLIT);
    write_u8(w, (f->is_sparse ? SPLIT_SPARSE : 0) | (f->has_signs ? SPLIT_SIGNS : 0) | SPLIT_TAIL * f->tail);
    write_u8(w, f->top);
    write_varint(w, f->base);
    write_zero_bits(f, looks, segments_of(n), zeros, coder, isa, rest, w);
    if (!split_all(f, looks, zeros, elements, n, isa, symbols, &escapes, w))
        return false;
    write_escapes(&escapes, w);
    if (f->tail)
        write_tails(f, elements, n, coder, isa, rest, w);
    symbols_count(&counts, symbols, n, coder == SZD_CODER_HUFFMAN ? 0 : width, SYMBOLS_ARE_LOGARITHMS, isa, rest);
    symbols_encode_counted(&counts, coder, isa, rest, w);
    return true;
}

/* ---- decoding ---- */

/* The position of the next escape, counted from the section's first element; UINT64_MAX after the last. */
static bool find_escape(planes_decoder *d, uint64_t after)
{
    d->next_escape = UINT64_MAX;
    if (d->escapes_left == 0)
        return true;
    d->escapes_left--;
    uint64_t gap = get_exp_golomb(&d->escape_gaps, d->escape_order);
    d->next_escape = after + gap;
    return !d->escape_gaps.failed && d->next_escape >= gap && d->next_escape < UINT64_MAX;
}

static int begin_escapes(planes_decoder *d, reader *r, size_t n)
{
    uint64_t count = read_varint(r);
    d->escapes_left = count;
    d->escape_gaps = (bit_reader){r->at, r->at, 0, 0, false};
    if (r->failed)
        return SZD_BLOCK_SHORT;
    if (count > n)
        return SZD_BLOCK_CODES;
    if (count) {
        int status = begin_list(r, &d->escape_gaps, &d->escape_order);
        d->escape_tops = read_bytes(r, 2 * count);
        if (status || !d->escape_tops)
            return status ? status : SZD_BLOCK_SHORT;
    }
    return find_escape(d, 0) ? SZD_OK : SZD_BLOCK_NUMBERS;
}

int split_begin(planes_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *scratch)
{
    unsigned flags = read_u8(r), top = read_u8(r);
    uint64_t base = read_varint(r);
    if (r->failed)
        return SZD_BLOCK_SHORT;
    unsigned tail = flags / SPLIT_TAIL;
    if (d->bytes < 2 || (tail && (d->bytes < 4 || flags & SPLIT_SPARSE)) || tail > 7 || top == 0 || top > MAX_TOP ||
        top >= 8 * d->bytes || tail > 8 * d->bytes - 1 - top || base > UINT32_MAX)
        return SZD_BLOCK_CODES;
    d->split = (split_form){.bytes = d->bytes,
                            .top = top,
                            .low = 8 * d->bytes - 1 - top,
                            .tail = tail,
                            .base = (uint32_t)base & ((1u << top) - 1)};
    d->split.is_sparse = flags & SPLIT_SPARSE;
    d->split.has_signs = flags & SPLIT_SIGNS;
    d->position = 0;
    int status = symbols_begin(&d->planes[0], r, segments_of(n), SZD_ISA_SCALAR, NULL);
    if (status)
        return status;
    uint64_t size = read_varint(r);
    const uint8_t *raw = read_bytes(r, size);
    if (!raw)
        return SZD_BLOCK_SHORT;
    d->raw = (reader){raw, raw + size, false};
    status = begin_escapes(d, r, n);
    if (status == SZD_OK && tail)
        status = symbols_begin(&d->planes[1], r, n, SZD_ISA_SCALAR, NULL);
    return status ? status : symbols_begin(&d->planes[d->bytes - 1], r, n, isa, scratch);
}

/* A segment of which the zeros have been left out. */
static bool join_sparse(planes_decoder *d, const uint8_t *symbols, size_t n, unsigned zeros, uint32_t isa,
                        uint8_t *elements)
{
    const unsigned width = d->split.low + d->split.has_signs - zeros;
    uint8_t kept[SEGMENT + SPARE], joined[SEGMENT * 8 + SPARE];
    size_t count = leave_out_zeros(symbols, n, 1, isa, kept);
    const uint8_t *raw = read_bytes(&d->raw, packed_bytes(count, width));
    if (!raw || !packed_is_padded(raw, count, width))
        return false;
    split_join(&d->split, kept, raw, count, zeros, isa, joined);
    put_in_zeros(joined, symbols, n, d->bytes, isa, elements);
    return true;
}

static bool join_segment(planes_decoder *d, const uint8_t *symbols, size_t n, unsigned zeros, uint32_t isa,
                         uint8_t *elements)
{
    if (zeros + d->split.tail > d->split.low)
        return false;
    zeros += d->split.tail;
    if (d->split.is_sparse)
        return join_sparse(d, symbols, n, zeros, isa, elements);
    const unsigned width = d->split.low + d->split.has_signs - zeros;
    const uint8_t *raw = read_bytes(&d->raw, packed_bytes(n, width));
    if (!raw || (n < SEGMENT && !packed_is_padded(raw, n, width)))
        return false;
    split_join(&d->split, symbols, raw, n, zeros, isa, elements);
    return true;
}

/* Puts the escapes' top bits among these n elements in their places. */
static bool insert_escapes(planes_decoder *d, const uint8_t *symbols, size_t n, uint8_t *elements)
{
    while (d->next_escape - d->position < n) {
        size_t i = (size_t)(d->next_escape - d->position);
        uint64_t t = load_u16(d->escape_tops);
        uint8_t *p = elements + i * d->bytes;
        if (symbols[i] != d->split.is_sparse || t >> d->split.top)
            return false;
        store_element(p, load_element(p, d->bytes) | t << d->split.low, d->bytes);
        d->escape_tops += 2;
        if (!find_escape(d, d->next_escape + 1))
            return false;
    }
    d->position += n;
    return true;
}

/* The lowest bits come from their own stream. */
static bool insert_tails(planes_decoder *d, size_t n, uint32_t isa, uint8_t *elements)
{
    const uint8_t *tails = symbols_next(&d->planes[1], d->buffer[1], n, isa);
    uint8_t set = 0;
    if (!tails)
        return false;
    for (size_t i = 0; i < n; i++)
        set |= tails[i];
    if (set >> d->split.tail)
        return false;
    for (size_t i = 0; d->bytes == 4 && i < n; i++)
        store_element(elements + 4 * i, load_element(elements + 4 * i, 4) | tails[i], 4);
    for (size_t i = 0; d->bytes == 8 && i < n; i++)
        store_element(elements + 8 * i, load_element(elements + 8 * i, 8) | tails[i], 8);
    return true;
}

/* At most CHUNK elements; only the last call's number is not a multiple of SEGMENT. */
bool split_next(planes_decoder *d, uint8_t *elements, size_t n, uint32_t isa)
{
    const uint8_t *zeros = symbols_next(&d->planes[0], d->buffer[0], segments_of(n), isa),
                  *symbols = symbols_next(&d->planes[d->bytes - 1], d->buffer[d->bytes - 1], n, isa);
    if (!zeros || !symbols)
        return false;
    for (size_t k = 0, done = 0; done < n; k++, done += SEGMENT) {
        size_t part = n - done < SEGMENT ? n - done : SEGMENT;
        if (!join_segment(d, symbols + done, part, zeros[k], isa, elements + done * d->bytes))
            return false;
    }
    return (!d->split.tail || insert_tails(d, n, isa, elements)) && insert_escapes(d, symbols, n, elements);
}

bool split_finished(planes_decoder *d)
{
    return list_finished(&d->escape_gaps) && d->next_escape == UINT64_MAX && reader_left(&d->raw) == 0 &&
           symbols_finished(&d->planes[0]) && (!d->split.tail || symbols_finished(&d->planes[1])) &&
           symbols_finished(&d->planes[d->bytes - 1]);
}

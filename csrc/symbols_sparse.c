/* Streams in which one symbol is by far the commonest (FORMAT.md, section 4): the gaps between the others, and these.
 * Coding and decoding take as long as there are others. */
#include "symbols.h"

enum { LEAST_SPARSE = 256, LEAST_SHARE = 8, FINE_GAP = 32 };

/* The positions of the others, and two lists of gaps. */
size_t sparse_scratch(size_t n) { return 4 * (n / LEAST_SHARE) + 3 * (n / SPARSE_SHARE) + 6 * 64; }

size_t sparse_decode_scratch(size_t n) { return 2 * (n / SPARSE_SHARE) + 3 * 64; }

/* A bit for each of 8 bytes, the first of which is the lowest: whether it is not zero. */
static uint64_t nonzero_bytes(uint64_t x)
{
    const uint64_t low7 = 0x7f7f7f7f7f7f7f7f;
    return ((((x & low7) + low7) | x) >> 7 & 0x0101010101010101) * 0x0102040810204080 >> 56;
}

/* Where the symbols are that are not the commonest; returns how many. */
static size_t find_others(const uint8_t *symbols, size_t n, uint8_t commonest, uint32_t *positions)
{
    const uint64_t common = commonest * (uint64_t)0x0101010101010101;
    size_t count = 0, i = 0;
    for (; n - i >= 64; i += 64) {
        uint64_t others = 0;
        for (unsigned k = 0; k < 8; k++)
            others |= nonzero_bytes(load_u64(symbols + i + 8 * k) ^ common) << 8 * k;
        for (; others; others &= others - 1)
            positions[count++] = (uint32_t)i + (uint32_t)__builtin_ctzll(others);
    }
    for (; i < n; i++)
        if (symbols[i] != commonest)
            positions[count++] = (uint32_t)i;
    return count;
}

typedef struct gap_list {
    unsigned shift; /* so many low bits of a gap are raw */
    size_t count;
    uint8_t *gaps;
    plain_plan plan;
    uint64_t bytes; /* what they take */
} gap_list;

static void make_list(const uint32_t *gaps, size_t count, uint32_t isa, gap_list *list)
{
    uint32_t counts[256];
    list->count = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t gap = gaps[i] >> list->shift;
        for (; gap >= GAP_GOES_ON; gap -= GAP_GOES_ON)
            list->gaps[list->count++] = GAP_GOES_ON;
        list->gaps[list->count++] = (uint8_t)gap;
    }
    histogram_u8(list->gaps, list->count, isa, counts);
    symbols_plan(counts, list->count, SZD_CODER_AUTO, &list->plan);
    list->bytes = list->plan.bytes + (count * list->shift + 7) / 8;
}

static void write_low_bits(const uint32_t *gaps, size_t count, unsigned shift, writer *w)
{
    bit_writer b = {w, 0, 0};
    for (size_t i = 0; i < count; i++)
        put_bits(&b, gaps[i] & ((1u << shift) - 1), shift);
    flush_bits(&b);
}

/* So that the mean of what is coded is some FINE_GAP: then the low bits are as good as random where gaps are. */
static unsigned choose_shift(size_t n, size_t count)
{
    unsigned shift = bit_length((uint64_t)n / (count + 1) / FINE_GAP);
    return shift ? (shift - 1 < MOST_GAP_SHIFT ? shift - 1 : MOST_GAP_SHIFT) : 0;
}

static unsigned commonest_of(const uint32_t counts[256])
{
    unsigned top = 0;
    for (unsigned s = 1; s < 256; s++)
        top = counts[s] > counts[top] ? s : top;
    return top;
}

/* The symbol that stands for one that is coded; false where several do, as for escapes. */
static bool stands_for(const symbol_counts *c, unsigned coded, unsigned *stored)
{
    unsigned found = 0;
    for (unsigned s = 0; s < 256; s++)
        if (mapped(c->coded, s) == coded) {
            *stored = s;
            found++;
        }
    return found == 1;
}

bool sparse_encode(const symbol_counts *c, uint64_t limit, uint32_t isa, uint8_t *room, uint8_t *scratch, writer *w)
{
    const size_t n = c->n;
    const unsigned top = commonest_of(c->all);
    unsigned stored;
    if (n < LEAST_SPARSE || n > MOST_COMPOSITE || n - c->all[top] > n / LEAST_SHARE || !stands_for(c, top, &stored))
        return false;
    uint32_t *positions = take(&room, 4 * (n / LEAST_SHARE)), counts[256];
    size_t count = find_others(c->symbols, n, (uint8_t)stored, positions);
    uint8_t *others = take(&room, n / SPARSE_SHARE);
    for (size_t i = 0; i < count; i++)
        others[i] = mapped(c->coded, c->symbols[positions[i]]);
    plain_plan plan;
    histogram_u8(others, count, isa, counts);
    symbols_plan(counts, count, SZD_CODER_AUTO, &plan);
    const uint32_t *gaps = gaps_of_positions(positions, count);
    gap_list fine = {.gaps = take(&room, n / SPARSE_SHARE)}, coarse = {.gaps = take(&room, n / SPARSE_SHARE)};
    make_list(gaps, count, isa, &fine);
    coarse.shift = choose_shift(n, count);
    if (coarse.shift)
        make_list(gaps, count, isa, &coarse);
    const gap_list *list = coarse.shift && coarse.bytes < fine.bytes ? &coarse : &fine;
    if (3 + varint_size(list->count) + list->bytes + plan.bytes > limit)
        return false;
    write_u8(w, STREAM_SPARSE);
    write_u8(w, top);
    write_u8(w, list->shift);
    write_varint(w, list->count);
    symbols_write(list->gaps, list->count, &list->plan, isa, scratch, w);
    write_low_bits(gaps, count, list->shift, w);
    symbols_write(others, count, &plan, isa, scratch, w);
    return true;
}

/* ---- decoding ---- */

static const size_t FOREVER = SIZE_MAX / 2;

/* How many commonest symbols come next. */
static size_t next_gap(gap_reader *g)
{
    size_t gap = 0;
    for (; g->at < g->end; gap += (size_t)GAP_GOES_ON << g->shift)
        if (*g->at++ != GAP_GOES_ON) {
            gap += (size_t)g->at[-1] << g->shift;
            return g->shift ? gap + (size_t)get_bits(&g->low, g->shift) : gap;
        }
    return FOREVER;
}

/* Whether the gaps, with a symbol after each, are of n symbols, and use up what there is. */
static bool gaps_fit(gap_reader g, size_t others, uint64_t n)
{
    uint64_t reach = 0;
    for (size_t i = 0; i < others && reach <= n; i++)
        reach += (uint64_t)next_gap(&g) + 1;
    return reach <= n && g.at == g.end && (!g.shift || (end_bits(&g.low) == g.low.end && !g.low.failed));
}

static size_t count_ends(const uint8_t *gaps, size_t n)
{
    size_t ends = 0;
    for (size_t i = 0; i < n; i++)
        ends += gaps[i] != GAP_GOES_ON;
    return ends;
}

int sparse_begin(symbol_decoder *d, reader *r, size_t n, uint32_t isa, uint8_t *scratch)
{
    uint8_t *gaps = take(&scratch, n / SPARSE_SHARE), *others = take(&scratch, n / SPARSE_SHARE);
    uint8_t commonest = read_u8(r);
    unsigned shift = read_u8(r);
    uint64_t count = read_varint(r);
    if (r->failed)
        return SZD_BLOCK_SHORT;
    if (shift > MOST_GAP_SHIFT || count > n / SPARSE_SHARE)
        return SZD_BLOCK_CODES;
    int status = symbols_decode_list(d, r, (size_t)count, isa, gaps);
    if (status)
        return status;
    const size_t ends = count_ends(gaps, (size_t)count), low_bytes = (ends * shift + 7) / 8;
    const uint8_t *low = read_bytes(r, low_bytes);
    if (!low)
        return SZD_BLOCK_SHORT;
    d->gaps = (gap_reader){gaps, gaps + count, shift, {low, low + low_bytes, 0, 0, false}};
    if (!gaps_fit(d->gaps, ends, n))
        return SZD_BLOCK_CODES;
    d->ahead = next_gap(&d->gaps);
    status = symbols_decode_list(d, r, ends, isa, others);
    d->constant = commonest;
    d->raw = others;
    return status;
}

void sparse_decode(symbol_decoder *d, uint8_t *out, size_t n)
{
    memset(out, d->constant, n);
    while (d->ahead < n) {
        out[d->ahead] = *d->raw++;
        d->ahead += 1 + next_gap(&d->gaps);
    }
    d->ahead -= n;
}

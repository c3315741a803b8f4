/* Canonical Huffman codes of at most 12 bits (FORMAT.md, section 4).
 *
 * Lengths come from package-merge (Larmore and Hirschberg 1990), which is optimal under the limit: with the symbols
 * sorted by count, list 1 is the symbols, and list l + 1 merges the symbols with the pairs of neighbours in list l. The
 * first 2u - 2 items of list 12 (u: the used symbols) hold each symbol as often as its code has bits.
 */
#include "internal.h"

enum { MAX_ITEMS = 512 };

static unsigned sort_used(const uint32_t counts[256], uint8_t order[256])
{
    unsigned used = 0;
    for (unsigned s = 0; s < 256; s++) {
        if (!counts[s])
            continue;
        unsigned at = used++;
        for (; at > 0 && counts[order[at - 1]] > counts[s]; at--)
            order[at] = order[at - 1];
        order[at] = (uint8_t)s;
    }
    return used;
}

/* One list from the list before: `weights` is replaced, `is_leaf` tells which items are symbols. */
static unsigned merge_level(const uint32_t counts[256], const uint8_t order[256], unsigned used,
                            uint64_t weights[MAX_ITEMS], unsigned items, uint8_t is_leaf[MAX_ITEMS])
{
    uint64_t merged[MAX_ITEMS];
    unsigned leaf = 0, pair = 0, n = 0;
    while (leaf < used || pair + 1 < items) {
        uint64_t package = pair + 1 < items ? weights[pair] + weights[pair + 1] : UINT64_MAX;
        bool take_leaf = leaf < used && counts[order[leaf]] <= package;
        is_leaf[n] = take_leaf;
        merged[n++] = take_leaf ? counts[order[leaf]] : package;
        leaf += take_leaf;
        pair += take_leaf ? 0 : 2;
    }
    memcpy(weights, merged, n * sizeof *weights);
    return n;
}

void huffman_fit(const uint32_t counts[256], uint8_t lengths[256])
{
    uint8_t order[256], is_leaf[HUFFMAN_MAX][MAX_ITEMS];
    uint64_t weights[MAX_ITEMS];
    unsigned used = sort_used(counts, order), items = 0;
    memset(lengths, 0, 256);
    for (unsigned level = 0; level < HUFFMAN_MAX; level++)
        items = merge_level(counts, order, used, weights, items, is_leaf[level]);
    unsigned take = 2 * used - 2;
    for (unsigned level = HUFFMAN_MAX; level-- > 0;) {
        unsigned leaves = 0;
        for (unsigned i = 0; i < take; i++)
            leaves += is_leaf[level][i];
        for (unsigned i = 0; i < leaves; i++)
            lengths[order[i]]++;
        take = 2 * (take - leaves);
    }
}

/* What codes and length table of n symbols take at least: the entropy, a bit a length. log2_q16 is at most 3 too low.
 */
uint64_t huffman_floor_bits(const uint32_t counts[256], size_t n)
{
    uint64_t entropy = 0;
    uint32_t whole = log2_q16((uint32_t)n);
    unsigned lo = 256, hi = 0;
    for (unsigned s = 0; s < 256; s++) {
        uint32_t log = counts[s] ? log2_q16(counts[s]) + 3 : whole;
        entropy += log < whole ? (uint64_t)counts[s] * (whole - log) : 0;
        lo = counts[s] && lo == 256 ? s : lo;
        hi = counts[s] ? s : hi;
    }
    return (entropy >> 16) + 16 + (hi - lo + 1);
}

uint64_t huffman_cost_bits(const uint32_t counts[256], const uint8_t lengths[256])
{
    uint64_t cost = 16;
    unsigned lo = 0, hi = 255, previous = 8;
    while (!lengths[lo])
        lo++;
    while (!lengths[hi])
        hi--;
    for (unsigned s = lo; s <= hi; s++) {
        cost += (uint64_t)counts[s] * lengths[s] + exp_golomb_bits(zigzag((int64_t)lengths[s] - previous), 0);
        previous = lengths[s];
    }
    return cost;
}

void huffman_write_lengths(const uint8_t lengths[256], writer *w)
{
    bit_writer b = {w, 0, 0};
    unsigned lo = 0, hi = 255;
    while (!lengths[lo])
        lo++;
    while (!lengths[hi])
        hi--;
    put_bits(&b, lo, 8);
    put_bits(&b, hi, 8);
    int64_t previous = 8;
    for (unsigned s = lo; s <= hi; s++) {
        put_exp_golomb(&b, zigzag(lengths[s] - previous), 0);
        previous = lengths[s];
    }
    flush_bits(&b);
}

bool huffman_read_lengths(reader *r, uint8_t lengths[256])
{
    bit_reader b = {r->at, r->end, 0, 0, false};
    memset(lengths, 0, 256);
    unsigned lo = (unsigned)get_bits(&b, 8), hi = (unsigned)get_bits(&b, 8);
    if (b.failed || lo >= hi)
        return false;
    int64_t previous = 8;
    uint32_t kraft = 0;
    for (unsigned s = lo; s <= hi; s++) {
        uint64_t u = get_exp_golomb(&b, 0);
        int64_t length = u > 64 ? -1 : previous + unzigzag(u);
        if (b.failed || length < 0 || length > HUFFMAN_MAX)
            return false;
        lengths[s] = (uint8_t)length;
        kraft += length ? 1u << (HUFFMAN_MAX - length) : 0;
        previous = length;
    }
    r->at = end_bits(&b);
    return !b.failed && kraft == 1u << HUFFMAN_MAX;
}

/* Each symbol's code, its first bit lowest, as the bit string wants it. */
static void make_codes(const uint8_t lengths[256], uint16_t codes[256])
{
    unsigned code = 0;
    for (unsigned length = 1; length <= HUFFMAN_MAX; length++) {
        for (unsigned s = 0; s < 256; s++)
            if (lengths[s] == length) {
                unsigned reversed = 0;
                for (unsigned i = 0; i < length; i++)
                    reversed |= (code >> i & 1) << (length - 1 - i);
                codes[s] = (uint16_t)reversed;
                code++;
            }
        code <<= 1;
    }
}

void huffman_encode(const uint8_t *symbols, size_t n, symbol_map map, const uint8_t lengths[256], writer *w)
{
    uint16_t codes[256] = {0};
    make_codes(lengths, codes);
    bit_writer b = {w, 0, 0};
    for (size_t i = 0; i < n; i++) {
        uint8_t s = mapped(map, symbols[i]);
        put_bits(&b, codes[s], lengths[s]);
    }
    flush_bits(&b);
}

void huffman_begin(huffman_decoder *d, const uint8_t lengths[256], const uint8_t *payload, size_t size)
{
    uint16_t codes[256] = {0};
    make_codes(lengths, codes);
    for (unsigned s = 0; s < 256; s++)
        if (lengths[s])
            for (unsigned slot = codes[s]; slot < 1u << HUFFMAN_MAX; slot += 1u << lengths[s])
                d->table[slot] = (uint16_t)(s << 4 | lengths[s]);
    d->bits = (bit_reader){payload, payload + size, 0, 0, false};
}

bool huffman_decode(huffman_decoder *d, uint8_t *out, size_t n)
{
    bit_reader b = d->bits;
    for (size_t i = 0; i < n; i++) {
        if (b.have < HUFFMAN_MAX)
            refill(&b);
        unsigned e = d->table[b.acc & ((1u << HUFFMAN_MAX) - 1)], length = e & 15;
        if (b.have < length)
            return false;
        b.acc >>= length;
        b.have -= length;
        out[i] = (uint8_t)(e >> 4);
    }
    d->bits = b;
    return true;
}

bool huffman_finished(huffman_decoder *d)
{
    refill(&d->bits);
    return end_bits(&d->bits) == d->bits.end && !d->bits.failed && d->bits.have < 8;
}

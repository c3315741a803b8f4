/* The parameters of the split form (FORMAT.md, section 5.2), chosen by their estimated cost on a sample.
 *
 * The symbol stands for the exponent and as many bits of the mantissa as pay: their distribution within an octave is
 * not flat. Of a network's weights two bits take what there is to be had, with 64 symbols for 16 octaves; values near 1
 * pay for more, small blocks for fewer. */
#include "planes.h"

enum { FINE = 4096, LEVELS = 9 }; /* bins; so many numbers of top bits are tried */
#define IMPOSSIBLE (UINT64_MAX / 4)
enum { TABLE_BITS = 5 };   /* what a used symbol costs in the table, about */
enum { ESCAPE_BITS = 18 }; /* what an escape costs beside the place where it is, about */
enum { SMALL_ALPHABET = 64, LARGE_ALPHABET = 256 };

/* How many of the lowest bits that are stored raw are zero in all elements of a segment. */
unsigned zero_bits(uint64_t any, const split_form *f)
{
    uint64_t low = (any & (((uint64_t)1 << f->low) - 1)) >> f->tail;
    return low ? (unsigned)__builtin_ctzll(low) : f->low - f->tail;
}

/* What the choice of the split form looks at. `weights[z]`: elements, in segments of which the lowest z bits are zero.
 */
typedef struct split_sample {
    uint64_t weights[64];
    unsigned bytes, finest; /* the most top bits that are tried */
    bool is_sparse, has_signs;
    size_t n;
    uint64_t drawn, zeros;
    size_t lowest, highest;    /* of the bins that hold any */
    uint32_t first;            /* the number that bins[0] counts */
    uint32_t tails[1 << TAIL]; /* by the lowest bits */
    uint32_t bins[FINE + 1];   /* by the `finest` highest bits of the magnitude; the last one: others */
} split_sample;

unsigned most_top_bits(unsigned bytes) { return bytes == 2 ? 12 : MAX_TOP; }

/* Raw bits of all low numbers. */
static uint64_t raw_bits(const split_sample *s, unsigned top)
{
    unsigned low = 8 * s->bytes - 1 - top;
    uint64_t bits = 0;
    for (unsigned z = 0; z < 64; z++)
        bits += s->weights[z] * ((z < low ? low - z : 0) + s->has_signs);
    return bits;
}

/* Zeros are left out where that saves more than one part in 256. */
static void weigh_segments(split_sample *s, const segment_look *looks)
{
    const split_form whole = {.bytes = s->bytes, .low = 8 * s->bytes - 1};
    uint64_t zeros = 0, any = 0;
    for (size_t k = 0, segments = segments_of(s->n); k < segments; k++) {
        size_t length = k + 1 < segments ? SEGMENT : s->n - k * SEGMENT;
        any |= looks[k].any;
        zeros += length - looks[k].nonzero;
        s->weights[zero_bits(looks[k].any, &whole)] += length;
    }
    s->has_signs = any >> whole.low;
    uint64_t dense = raw_bits(s, s->bytes);
    if (zeros * 64 <= s->n)
        return;
    uint64_t before[64];
    memcpy(before, s->weights, sizeof before);
    memset(s->weights, 0, sizeof s->weights);
    for (size_t k = 0, segments = segments_of(s->n); k < segments; k++)
        s->weights[zero_bits(looks[k].any, &whole)] += looks[k].nonzero;
    s->is_sparse = raw_bits(s, s->bytes) + s->n * s->bytes / 32 < dense;
    if (!s->is_sparse)
        memcpy(s->weights, before, sizeof before);
}

/* The run of `width` neighbouring bins that holds most, where only those from `lowest` to `highest` hold any; returns
 * how much. What room there is goes to a quarter above: the sample misses the ends, of which the lower is the longer
 * one. */
static uint64_t best_window(const uint32_t *bins, size_t lowest, size_t highest, size_t width, size_t *start)
{
    uint64_t sum = 0, best = 0;
    size_t last = highest;
    for (size_t b = lowest; b <= highest; b++) {
        sum += bins[b];
        sum -= b >= lowest + width ? bins[b - width] : 0;
        last = sum > best ? b : last;
        best = sum > best ? sum : best;
    }
    size_t first = last >= lowest + width ? last - width + 1 : lowest;
    while (first < last && !bins[first])
        first++;
    size_t room = width - (last - first + 1), below = room - room / 4;
    *start = first > below ? first - below : 0;
    return best;
}

/* The bins shall hold all but one in 1024: the octaves around the bulk with up to 16 top bits, else all of them with
 * 12. */
static void place_bins(split_sample *s, const uint8_t *elements, bool everything)
{
    const unsigned magnitude = 8 * s->bytes - 1;
    uint32_t groups[512] = {0}; /* the sign is the highest bit of their numbers */
    uint64_t piece[SAMPLE_MOST], nonzero = 0;
    size_t count, first;
    for (sample_runs r = {s->n, 0, everything}; (count = next_piece(&r, elements, s->bytes, piece));)
        for (size_t i = 0; i < count; i++)
            groups[piece[i] >> (magnitude - 8)] += piece[i] != 0;
    for (size_t g = 0; g < 256; g++) {
        groups[g] += groups[g + 256];
        nonzero += groups[g];
    }
    s->finest = most_top_bits(s->bytes);
    uint64_t inside = best_window(groups, 0, 255, FINE >> (s->finest - 8), &first);
    if ((nonzero - inside) * 1024 > nonzero)
        s->finest = 12;
    s->first = s->finest > 12 ? (uint32_t)first << (s->finest - 8) : 0;
}

static void draw(split_sample *s, const uint8_t *elements, bool everything)
{
    const unsigned magnitude = 8 * s->bytes - 1, low = magnitude - s->finest;
    const uint64_t mask = ((uint64_t)1 << magnitude) - 1;
    uint64_t piece[SAMPLE_MOST];
    size_t count;
    for (sample_runs r = {s->n, 0, everything}; (count = next_piece(&r, elements, s->bytes, piece)); s->drawn += count)
        for (size_t i = 0; i < count; i++) {
            uint64_t t = (piece[i] & mask) >> low, bin = t - s->first;
            s->zeros += t == 0;
            s->tails[piece[i] & ((1 << TAIL) - 1)]++;
            s->bins[bin < FINE ? bin : FINE]++;
        }
    if (s->first == 0)
        s->bins[0] = 0; /* zeros are counted apart */
    for (s->lowest = 0; s->lowest < FINE - 1 && !s->bins[s->lowest];)
        s->lowest++;
    for (s->highest = FINE - 1; s->highest > s->lowest && !s->bins[s->highest];)
        s->highest--;
}

/* Bits of all symbols and escapes: the bins are those that symbols stand for, `inside` is what they hold. */
static uint64_t symbol_bits(const split_sample *s, const uint32_t *bins, size_t count, uint64_t inside)
{
    uint64_t escapes = s->drawn - s->zeros - inside, used = 1, sum = v_log2_v(s->zeros + escapes);
    for (size_t b = 0; b < count; b++) {
        used += bins[b] != 0;
        sum += v_log2_v(bins[b]);
    }
    /* the entropy of a sample is too low by (used - 1) / (2 ln 2) bits (Miller and Madow) */
    uint64_t bits = v_log2_v(s->drawn) - sum + (s->drawn < s->n ? used * 3 / 4 << 16 : 0);
    if (escapes)
        bits += escapes * (quick_log2(s->drawn) - quick_log2(escapes) + (ESCAPE_BITS << 16));
    uint64_t each = bits / s->drawn;
    return (uint64_t)s->n * (each >> 8) / 256 + used * TABLE_BITS;
}

/* The best place for `span` symbols that stand for the `top` highest bits, and its cost in bits; `bins` are merged to
 * that unit. */
static uint64_t place_symbols(const split_sample *s, const uint32_t *bins, unsigned top, uint32_t span, uint32_t *base)
{
    const unsigned coarser = s->finest - top;
    const size_t count = FINE >> coarser;
    size_t start;
    uint64_t inside = best_window(bins, s->lowest >> coarser, s->highest >> coarser, span, &start),
             first = (s->first >> coarser) + start;
    first = first < (uint64_t)1 << top ? first : ((uint64_t)1 << top) - 1; /* a sample of zeros only says nothing */
    *base = (uint32_t)(first ? first - 1 : 0);
    if ((s->drawn - s->zeros - inside) * ESCAPE_SHARE > s->drawn)
        return IMPOSSIBLE;
    return symbol_bits(s, bins + start, count - start < span ? count - start : span, inside) + raw_bits(s, top);
}

/* The number of top bits, the alphabet and its place; returns the estimated bits. A large alphabet is slower: it must
 * save one bit in 32 elements. From few top bits to many, until more are far from paying: the mantissa's do for a few
 * tenths of a bit, while the escapes become ever more. */
static uint64_t choose_split(split_sample *s, unsigned most_top, split_form *f)
{
    uint32_t merged[FINE], *levels[LEVELS] = {s->bins};
    uint64_t best = IMPOSSIBLE, last = 0;
    for (size_t k = 1, size = FINE / 2; k < LEVELS; k++, size /= 2) {
        levels[k] = k == 1 ? merged : levels[k - 1] + 2 * size;
        memset(levels[k], 0, size * sizeof *merged);
        for (size_t b = s->lowest >> k; b <= s->highest >> k && b < size; b++)
            levels[k][b] = levels[k - 1][2 * b] + levels[k - 1][2 * b + 1];
    }
    *f = (split_form){.bytes = s->bytes, .top = 1, .low = 8 * s->bytes - 2};
    for (unsigned k = LEVELS, top = s->finest + 1 - LEVELS; k-- > 0 && top <= most_top && last <= best + s->n / 4;
         top++)
        for (unsigned large = 0; large < 2; large++) {
            uint32_t base = 0, span = (large ? LARGE_ALPHABET : SMALL_ALPHABET) - 1 - s->is_sparse;
            last = place_symbols(s, levels[k], top, span, &base);
            uint64_t bits = last + (large ? s->n / 32 : 0);
            if (bits < best) {
                best = bits;
                *f = (split_form){s->bytes, top, 8 * s->bytes - 1 - top, 0, s->is_sparse, s->has_signs, base, span};
            }
        }
    return best;
}

/* What is saved when the lowest bits are symbols of a stream of their own, instead of raw: some networks' arithmetic
 * leaves zeros there. Not where zeros are left out, and not for less than one bit in 16 elements: it takes time. */
static uint64_t tail_saving(const split_sample *s, unsigned low)
{
    uint64_t raw = 0, sum = 0;
    for (unsigned z = 0; z < TAIL; z++)
        raw += s->weights[z] * (TAIL - z);
    for (unsigned t = 0; t < 1 << TAIL; t++)
        sum += v_log2_v(s->tails[t]);
    uint64_t each = (v_log2_v(s->drawn) - sum) / s->drawn, coded = (uint64_t)s->n * (each >> 8) / 256 + 256;
    return s->is_sparse || s->bytes < 4 || low < TAIL || raw < coded + s->n / 16 ? 0 : raw - coded;
}

/* The split form that takes least, and its estimated bits. */
uint64_t plan_split(const uint8_t *elements, size_t n, unsigned bytes, const segment_look *looks, unsigned most_top,
                    split_form *f)
{
    split_sample s = {.bytes = bytes, .n = n};
    weigh_segments(&s, looks);
    place_bins(&s, elements, most_top != 0);
    draw(&s, elements, most_top != 0);
    uint64_t bits = choose_split(&s, most_top ? most_top : s.finest, f), saving = tail_saving(&s, f->low);
    f->tail = saving ? TAIL : 0;
    return bits - saving;
}

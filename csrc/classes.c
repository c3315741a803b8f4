/* Symbols seen as a matrix whose rows and columns have scales of their own: each row and each column gets a level, a
 * symbol's class is the sum of both, and symbols are sorted by class so that each may have its own frequencies
 * (FORMAT.md, section 4). */
#include "classes.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { LOG_BINS = 2048, LEAST_ROWS = 8 };

size_t class_count(const class_map *m) { return m->row_levels + m->column_levels - 1u; }

/* So many rows and columns that their sums of bytes stay below 2^16: the processor adds more of these at once. */
enum { SUMMED = 256 };

INLINE void sum_part(const uint8_t *symbols, size_t rows, size_t columns, size_t width, uint8_t zero,
                     uint32_t *row_sums, uint32_t *column_sums)
{
    uint16_t sums[SUMMED] = {0};
    for (size_t r = 0; r < rows; r++, symbols += width) {
        uint16_t sum = 0;
        for (size_t c = 0; c < columns; c++) {
            uint8_t d = (uint8_t)(symbols[c] < zero ? zero - symbols[c] : symbols[c] - zero);
            sum = (uint16_t)(sum + d);
            sums[c] = (uint16_t)(sums[c] + d);
        }
        row_sums[r] += sum;
    }
    for (size_t c = 0; c < columns; c++)
        column_sums[c] += sums[c];
}

/* The sums of |symbol - zero| along rows and columns. */
INLINE void sum_magnitudes(const uint8_t *symbols, size_t rows, size_t width, uint8_t zero, uint32_t *row_sums,
                           uint32_t *column_sums)
{
    memset(row_sums, 0, rows * sizeof *row_sums);
    memset(column_sums, 0, width * sizeof *column_sums);
    for (size_t r = 0; r < rows; r += SUMMED)
        for (size_t c = 0; c < width; c += SUMMED)
            sum_part(symbols + r * width + c, rows - r < SUMMED ? rows - r : SUMMED,
                     width - c < SUMMED ? width - c : SUMMED, width, zero, row_sums + r, column_sums + c);
}

#define SUM_MAGNITUDES(suffix, target)                                                                          \
    target static void sum_magnitudes_##suffix(const uint8_t *symbols, size_t rows, size_t width, uint8_t zero, \
                                               uint32_t *row_sums, uint32_t *column_sums)                       \
    {                                                                                                           \
        sum_magnitudes(symbols, rows, width, zero, row_sums, column_sums);                                      \
    }
SUM_MAGNITUDES(scalar, )
SUM_MAGNITUDES(avx2, TARGET_AVX2)
SUM_MAGNITUDES(avx512, TARGET_AVX512)

typedef struct spread {
    uint32_t low, high; /* the 3% and 97% quantiles of the bins */
} spread;

static uint32_t log_bin(uint32_t sum) { return log2_q16(2 * sum + 1) >> 10; }

/* A sum of `samples` numbers on a logarithmic scale: their mean in 1/8 where they are logarithms already. */
static uint32_t bin_of(uint32_t sum, bool logarithms, size_t samples)
{
    return logarithms ? (uint32_t)((uint64_t)sum * 8 / samples) : log_bin(sum);
}

static spread spread_of(const uint32_t *sums, size_t n, bool logarithms, size_t samples)
{
    uint32_t bins[LOG_BINS] = {0}, b = 0;
    size_t below = 0, rank = n / 32;
    for (size_t i = 0; i < n; i++)
        bins[bin_of(sums[i], logarithms, samples)]++;
    for (; below + bins[b] <= rank; b++)
        below += bins[b];
    spread s = {b, 0};
    for (; below + bins[b] < n - rank; b++)
        below += bins[b];
    s.high = b;
    return s;
}

/* Whether scales differ by more than sums over so many samples do by chance: the logarithm of a sum of m has a standard
 * deviation of at most about 1.44 / sqrt(m), and 94% of a normal distribution lie within 3.76 of them. Levels cost
 * something too: only from some two times the square on. */
static bool varies(spread s, uint64_t samples)
{
    uint64_t width = s.high - s.low; /* (64 * 1.44 * 3.76)^2 = 120,000 */
    return width * width * samples > 250000;
}

/* The same for means of logarithms: in units of 1/8 symbol, with four symbols an octave, magnitudes' logarithms have a
 * standard deviation of about 1.7 * 4 * 8. Here too from two times on. */
static bool means_vary(spread s, uint64_t samples)
{
    uint64_t width = s.high - s.low; /* (54 * 3.76)^2 = 41,000 */
    return width * width * samples > 90000;
}

static void set_levels(const uint32_t *sums, size_t n, bool logarithms, size_t samples, spread s, uint32_t step,
                       unsigned levels, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t log = bin_of(sums[i], logarithms, samples), level = log < s.low ? 0 : (log - s.low) / step;
        out[i] = (uint8_t)(level < levels ? level : levels - 1);
    }
}

static void count_levels(const uint8_t *level, size_t n, size_t counts[MAX_LEVELS])
{
    memset(counts, 0, MAX_LEVELS * sizeof *counts);
    for (size_t i = 0; i < n; i++)
        counts[level[i]]++;
}

/* Level widths are the same for rows and columns, so that levels add up as logarithms do. */
bool classes_choose(const uint8_t *symbols, size_t rows, size_t width, unsigned zero, uint32_t isa, uint32_t *sums,
                    class_map *m)
{
    const bool logs = zero == SYMBOLS_ARE_LOGARITHMS;
    if (rows < LEAST_ROWS)
        return false;
    PICK(isa, sum_magnitudes)(symbols, rows, width, logs ? 0 : (uint8_t)zero, sums, sums + rows);
    uint64_t total = 0;
    for (size_t r = 0; r < rows; r++)
        total += sums[r];
    spread row = spread_of(sums, rows, logs, width), column = spread_of(sums + rows, width, logs, rows);
    uint64_t per_row = total / rows, per_column = total / width;
    bool by_row = logs ? means_vary(row, width) : varies(row, per_row < width ? per_row : width),
         by_column = logs ? means_vary(column, rows) : varies(column, per_column < rows ? per_column : rows);
    if (!by_row && !by_column)
        return false;
    m->width = width;
    m->rows = rows;
    m->row_levels = by_row ? MADE_LEVELS : 1;
    m->column_levels = by_column ? MADE_LEVELS : 1;
    uint32_t widest = by_row ? row.high - row.low : 0, other = by_column ? column.high - column.low : 0;
    uint32_t step = ((widest > other ? widest : other) + MADE_LEVELS) / MADE_LEVELS;
    set_levels(sums, rows, logs, width, row, step, m->row_levels, m->row_level);
    set_levels(sums + rows, width, logs, rows, column, step, m->column_levels, m->column_level);
    count_levels(m->row_level, rows, m->rows_of);
    count_levels(m->column_level, width, m->columns_of);
    return true;
}

/* The columns in the order of their levels. */
static void order_columns(const class_map *m, uint32_t *order)
{
    size_t k = 0;
    for (unsigned level = 0; level < m->column_levels; level++)
        for (size_t c = 0; c < m->width; c++)
            if (m->column_level[c] == level)
                order[k++] = (uint32_t)c;
}

bool classes_valid(const class_map *m)
{
    size_t rows[256] = {0}, columns[256] = {0};
    for (size_t r = 0; r < m->rows; r++)
        rows[m->row_level[r]]++;
    for (size_t c = 0; c < m->width; c++)
        columns[m->column_level[c]]++;
    return memcmp(rows, m->rows_of, m->row_levels * sizeof *rows) == 0 &&
           memcmp(columns, m->columns_of, m->column_levels * sizeof *columns) == 0;
}

void classes_sizes(const class_map *m, size_t sizes[MAX_CLASSES])
{
    memset(sizes, 0, MAX_CLASSES * sizeof *sizes);
    for (unsigned r = 0; r < m->row_levels; r++)
        for (unsigned c = 0; c < m->column_levels; c++)
            sizes[r + c] += m->rows_of[r] * m->columns_of[c];
}

/* Where each class's next symbol is in `sorted`; CLASS_GAP bytes between classes, so that whole vectors may be stored
 * and loaded at their ends. */
static void class_starts(const class_map *m, size_t at[MAX_CLASSES])
{
    size_t sizes[MAX_CLASSES], start = 0;
    classes_sizes(m, sizes);
    for (unsigned k = 0; k < MAX_CLASSES; k++) {
        at[k] = start;
        start += sizes[k] + CLASS_GAP;
    }
}

/* Whole rows, level by level, so that each run's cursor stays in a register. */
static void split_scalar(const class_map *m, const uint8_t *symbols, uint8_t *sorted, size_t *at, void *scratch)
{
    uint32_t *order = scratch;
    order_columns(m, order);
    for (size_t r = 0; r < m->rows; r++, symbols += m->width) {
        const uint32_t *o = order;
        for (unsigned l = 0; l < m->column_levels; o += m->columns_of[l], l++) {
            uint8_t *to = sorted + at[m->row_level[r] + l];
            for (size_t j = 0; j < m->columns_of[l]; j++)
                to[j] = symbols[o[j]];
            at[m->row_level[r] + l] += m->columns_of[l];
        }
    }
}

static void merge_scalar(const class_map *m, const uint8_t *sorted, size_t *at, uint8_t *symbols, void *scratch)
{
    uint32_t *order = scratch;
    order_columns(m, order);
    for (size_t r = 0; r < m->rows; r++, symbols += m->width) {
        const uint32_t *o = order;
        for (unsigned l = 0; l < m->column_levels; o += m->columns_of[l], l++) {
            const uint8_t *from = sorted + at[m->row_level[r] + l];
            for (size_t j = 0; j < m->columns_of[l]; j++)
                symbols[o[j]] = from[j];
            at[m->row_level[r] + l] += m->columns_of[l];
        }
    }
}

#if defined(__x86_64__)
/* Which of 64 neighbouring columns have a level, and how many: [group][level]. */
typedef struct level_mask {
    uint64_t mask, count;
} level_mask;

static size_t make_masks(const class_map *m, level_mask *masks)
{
    size_t groups = (m->width + 63) / 64;
    memset(masks, 0, groups * m->column_levels * sizeof *masks);
    for (size_t c = 0; c < m->width; c++) {
        level_mask *k = masks + c / 64 * m->column_levels + m->column_level[c];
        k->mask |= (uint64_t)1 << (c & 63);
        k->count++;
    }
    return groups;
}

/* The first of the last group's columns, as a mask. */
static uint64_t last_group(size_t width) { return width % 64 ? ((uint64_t)1 << width % 64) - 1 : ~(uint64_t)0; }

/* 64 symbols at a time: those of a level are packed together. */
TARGET_AVX512 static void split_avx512(const class_map *m, const uint8_t *symbols, uint8_t *sorted, size_t *at,
                                       void *scratch)
{
    level_mask *masks = scratch;
    size_t groups = make_masks(m, masks), levels = m->column_levels;
    for (size_t r = 0; r < m->rows; r++, symbols += m->width) {
        size_t *to = at + m->row_level[r];
        const level_mask *k = masks;
        for (size_t g = 0; g < groups; g++) {
            __mmask64 there = g == groups - 1 ? last_group(m->width) : ~(uint64_t)0;
            __m512i v = _mm512_maskz_loadu_epi8(there, symbols + 64 * g);
            for (size_t l = 0; l < levels; l++, k++) {
                _mm512_storeu_si512(sorted + to[l], _mm512_maskz_compress_epi8(k->mask, v));
                to[l] += k->count;
            }
        }
    }
}

TARGET_AVX512 static void merge_avx512(const class_map *m, const uint8_t *sorted, size_t *at, uint8_t *symbols,
                                       void *scratch)
{
    level_mask *masks = scratch;
    size_t groups = make_masks(m, masks), levels = m->column_levels;
    for (size_t r = 0; r < m->rows; r++, symbols += m->width) {
        size_t *from = at + m->row_level[r];
        const level_mask *k = masks;
        for (size_t g = 0; g < groups; g++) {
            __m512i v = _mm512_setzero_si512();
            for (size_t l = 0; l < levels; l++, k++) {
                v = _mm512_mask_expand_epi8(v, k->mask, _mm512_loadu_si512(sorted + from[l]));
                from[l] += k->count;
            }
            __mmask64 there = g == groups - 1 ? last_group(m->width) : ~(uint64_t)0;
            _mm512_mask_storeu_epi8(symbols + 64 * g, there, v);
        }
    }
}
#endif

/* Columns in order, or masks of 64, or shuffles of 16 for at most MADE_LEVELS: 80 bytes for 16 columns, and 16 more. */
size_t classes_scratch(size_t width) { return width * 4 + (width + 63) / 64 * MAX_LEVELS * 16 + 64; }

void classes_split(const class_map *m, const uint8_t *symbols, uint8_t *sorted, uint32_t isa, void *scratch)
{
    size_t at[MAX_CLASSES];
    class_starts(m, at);
#if defined(__x86_64__)
    if (isa >= SZD_ISA_AVX512 || (isa == SZD_ISA_AVX2 && m->column_levels <= MADE_LEVELS)) {
        (isa >= SZD_ISA_AVX512 ? split_avx512 : classes_split_shuffle)(m, symbols, sorted, at, scratch);
        return;
    }
#elif defined(__aarch64__)
    if (isa == SZD_ISA_NEON && m->column_levels <= MADE_LEVELS) {
        classes_split_shuffle(m, symbols, sorted, at, scratch);
        return;
    }
#endif
    (void)isa;
    split_scalar(m, symbols, sorted, at, scratch);
}

void classes_merge(const class_map *m, const uint8_t *sorted, uint8_t *symbols, uint32_t isa, void *scratch)
{
    size_t at[MAX_CLASSES];
    class_starts(m, at);
#if defined(__x86_64__)
    if (isa >= SZD_ISA_AVX512 || (isa == SZD_ISA_AVX2 && m->column_levels <= MADE_LEVELS)) {
        (isa >= SZD_ISA_AVX512 ? merge_avx512 : classes_merge_shuffle)(m, sorted, at, symbols, scratch);
        return;
    }
#elif defined(__aarch64__)
    if (isa == SZD_ISA_NEON && m->column_levels <= MADE_LEVELS) {
        classes_merge_shuffle(m, sorted, at, symbols, scratch);
        return;
    }
#endif
    (void)isa;
    merge_scalar(m, sorted, at, symbols, scratch);
}

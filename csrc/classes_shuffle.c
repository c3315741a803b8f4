/* The twins of classes.c's sorting by class, 16 symbols at a time, with vectors that can shuffle bytes. */
#include "classes.h"
#if defined(__x86_64__)
#include <immintrin.h>
#define TARGET_SHUFFLE TARGET_AVX2
typedef __m128i bytes16;

TARGET_SHUFFLE INLINE bytes16 load(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }
TARGET_SHUFFLE INLINE void store(uint8_t *p, bytes16 v) { _mm_storeu_si128((__m128i *)(void *)p, v); }
/* Byte order[i] of v at place i; 0 for an order of 128. */
TARGET_SHUFFLE INLINE bytes16 shuffle(bytes16 v, bytes16 order) { return _mm_shuffle_epi8(v, order); }
TARGET_SHUFFLE INLINE bytes16 either(bytes16 a, bytes16 b) { return _mm_or_si128(a, b); }
#elif defined(__aarch64__)
#include <arm_neon.h>
#define TARGET_SHUFFLE
typedef uint8x16_t bytes16;

INLINE bytes16 load(const uint8_t *p) { return vld1q_u8(p); }
INLINE void store(uint8_t *p, bytes16 v) { vst1q_u8(p, v); }
INLINE bytes16 shuffle(bytes16 v, bytes16 order) { return vqtbl1q_u8(v, order); }
INLINE bytes16 either(bytes16 a, bytes16 b) { return vorrq_u8(a, b); }
#endif

#ifdef TARGET_SHUFFLE
enum { NOWHERE = 128 };

/* Of 16 neighbouring columns those of one level: where each comes from or goes to. */
typedef struct level_order {
    uint8_t order[16];
} level_order;

/* A row's columns of each level lie side by side: `starts` says where in them a group's begin, those behind the
 * last group's where they end. */
typedef struct column_orders {
    level_order *orders; /* [group][level] */
    uint32_t *starts;
    size_t groups, levels;
} column_orders;

/* together: the order that brings a level's symbols together; otherwise the one that puts them back. */
static column_orders make_orders(const class_map *m, bool together, void *scratch)
{
    column_orders o = {.groups = (m->width + 15) / 16, .levels = m->column_levels};
    o.orders = scratch;
    o.starts = (uint32_t *)(o.orders + o.groups * o.levels);
    memset(o.orders, NOWHERE, o.groups * o.levels * sizeof *o.orders);
    memset(o.starts, 0, o.levels * sizeof *o.starts);
    for (size_t c = 0; c < m->width; c++) {
        uint32_t *start = o.starts + c / 16 * o.levels, *next = start + o.levels;
        if (c % 16 == 0)
            memcpy(next, start, o.levels * sizeof *next);
        size_t l = m->column_level[c], place = next[l]++ - start[l];
        o.orders[c / 16 * o.levels + l].order[together ? place : c % 16] = (uint8_t)(together ? c % 16 : place);
    }
    return o;
}

/* Where a row's symbols of each level are; `at` moves behind them. */
INLINE void take_row(const class_map *m, size_t row, size_t *at, size_t *places)
{
    size_t *of_row = at + m->row_level[row];
    for (size_t l = 0; l < m->column_levels; l++) {
        places[l] = of_row[l];
        of_row[l] += m->columns_of[l];
    }
}

TARGET_SHUFFLE INLINE void split_group(const column_orders *o, size_t levels, size_t group, bytes16 v, uint8_t *sorted,
                                       const size_t *to)
{
    const level_order *order = o->orders + group * levels;
    const uint32_t *start = o->starts + group * levels;
    for (size_t l = 0; l < levels; l++)
        store(sorted + to[l] + start[l], shuffle(v, load(order[l].order)));
}

TARGET_SHUFFLE INLINE void split_rows(const class_map *m, const column_orders *o, size_t levels, const uint8_t *symbols,
                                      uint8_t *sorted, size_t *at)
{
    const size_t whole = m->width / 16;
    for (size_t r = 0; r < m->rows; r++, symbols += m->width) {
        size_t to[MAX_LEVELS];
        take_row(m, r, at, to);
        for (size_t g = 0; g < whole; g++)
            split_group(o, levels, g, load(symbols + 16 * g), sorted, to);
        if (whole < o->groups) {
            uint8_t rest[16] = {0};
            memcpy(rest, symbols + 16 * whole, m->width % 16);
            split_group(o, levels, whole, load(rest), sorted, to);
        }
    }
}

TARGET_SHUFFLE INLINE bytes16 merge_group(const column_orders *o, size_t levels, size_t group, const uint8_t *sorted,
                                          const size_t *from)
{
    const level_order *order = o->orders + group * levels;
    const uint32_t *start = o->starts + group * levels;
    bytes16 v = shuffle(load(sorted + from[0] + start[0]), load(order[0].order));
    for (size_t l = 1; l < levels; l++)
        v = either(v, shuffle(load(sorted + from[l] + start[l]), load(order[l].order)));
    return v;
}

TARGET_SHUFFLE INLINE void merge_rows(const class_map *m, const column_orders *o, size_t levels, const uint8_t *sorted,
                                      size_t *at, uint8_t *symbols)
{
    const size_t whole = m->width / 16;
    for (size_t r = 0; r < m->rows; r++, symbols += m->width) {
        size_t from[MAX_LEVELS];
        take_row(m, r, at, from);
        for (size_t g = 0; g < whole; g++)
            store(symbols + 16 * g, merge_group(o, levels, g, sorted, from));
        if (whole < o->groups) {
            uint8_t rest[16];
            store(rest, merge_group(o, levels, whole, sorted, from));
            memcpy(symbols + 16 * whole, rest, m->width % 16);
        }
    }
}

TARGET_SHUFFLE void classes_split_shuffle(const class_map *m, const uint8_t *symbols, uint8_t *sorted, size_t *at,
                                          void *scratch)
{
    const column_orders o = make_orders(m, true, scratch); /* mostly of MADE_LEVELS: loops take the constant */
    if (o.levels == MADE_LEVELS)
        split_rows(m, &o, MADE_LEVELS, symbols, sorted, at);
    else
        split_rows(m, &o, o.levels, symbols, sorted, at);
}

TARGET_SHUFFLE void classes_merge_shuffle(const class_map *m, const uint8_t *sorted, size_t *at, uint8_t *symbols,
                                          void *scratch)
{
    const column_orders o = make_orders(m, false, scratch);
    if (o.levels == MADE_LEVELS)
        merge_rows(m, &o, MADE_LEVELS, sorted, at, symbols);
    else
        merge_rows(m, &o, o.levels, sorted, at, symbols);
}
#else
typedef int classes_shuffle_is_empty_here;
#endif

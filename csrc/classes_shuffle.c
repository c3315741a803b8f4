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

/* Of 16 neighbouring columns those of one level: where each comes from or goes to, and how many they are. */
typedef struct level_order {
    uint8_t order[16];
} level_order;

typedef struct column_orders {
    level_order *orders; /* [group][level] */
    uint8_t *counts;
    size_t groups, levels;
} column_orders;

static column_orders begin_orders(const class_map *m, void *scratch)
{
    column_orders o = {.groups = (m->width + 15) / 16, .levels = m->column_levels};
    o.orders = scratch;
    o.counts = (uint8_t *)(o.orders + o.groups * o.levels);
    memset(o.orders, NOWHERE, o.groups * o.levels * sizeof *o.orders);
    memset(o.counts, 0, o.groups * o.levels);
    return o;
}

/* together: the order that brings a level's symbols together; otherwise the one that puts them back. */
static column_orders make_orders(const class_map *m, bool together, void *scratch)
{
    column_orders o = begin_orders(m, scratch);
    for (size_t c = 0; c < m->width; c++) {
        size_t k = c / 16 * o.levels + m->column_level[c], place = o.counts[k]++;
        o.orders[k].order[together ? place : c % 16] = (uint8_t)(together ? c % 16 : place);
    }
    return o;
}

TARGET_SHUFFLE INLINE void split_group(const column_orders *o, size_t group, bytes16 v, uint8_t *sorted, size_t *to)
{
    for (size_t l = 0; l < o->levels; l++) {
        size_t k = group * o->levels + l;
        store(sorted + to[l], shuffle(v, load(o->orders[k].order)));
        to[l] += o->counts[k];
    }
}

TARGET_SHUFFLE void classes_split_shuffle(const class_map *m, const uint8_t *symbols, uint8_t *sorted, size_t *at,
                                          void *scratch)
{
    const column_orders o = make_orders(m, true, scratch);
    const size_t whole = m->width / 16;
    for (size_t r = 0; r < m->rows; r++, symbols += m->width) {
        size_t *to = at + m->row_level[r];
        for (size_t g = 0; g < whole; g++)
            split_group(&o, g, load(symbols + 16 * g), sorted, to);
        if (whole < o.groups) {
            uint8_t rest[16] = {0};
            memcpy(rest, symbols + 16 * whole, m->width % 16);
            split_group(&o, whole, load(rest), sorted, to);
        }
    }
}

TARGET_SHUFFLE INLINE bytes16 merge_group(const column_orders *o, size_t group, const uint8_t *sorted, size_t *from)
{
    bytes16 v = shuffle(load(sorted + from[0]), load(o->orders[group * o->levels].order));
    from[0] += o->counts[group * o->levels];
    for (size_t l = 1; l < o->levels; l++) {
        size_t k = group * o->levels + l;
        v = either(v, shuffle(load(sorted + from[l]), load(o->orders[k].order)));
        from[l] += o->counts[k];
    }
    return v;
}

TARGET_SHUFFLE void classes_merge_shuffle(const class_map *m, const uint8_t *sorted, size_t *at, uint8_t *symbols,
                                          void *scratch)
{
    const column_orders o = make_orders(m, false, scratch);
    const size_t whole = m->width / 16;
    for (size_t r = 0; r < m->rows; r++, symbols += m->width) {
        size_t *from = at + m->row_level[r];
        for (size_t g = 0; g < whole; g++)
            store(symbols + 16 * g, merge_group(&o, g, sorted, from));
        if (whole < o.groups) {
            uint8_t rest[16];
            store(rest, merge_group(&o, whole, sorted, from));
            memcpy(symbols + 16 * whole, rest, m->width % 16);
        }
    }
}
#else
typedef int classes_shuffle_is_empty_here;
#endif

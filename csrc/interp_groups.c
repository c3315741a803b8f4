/* Sorting a stage's symbols by group, and back. */
#include "interp.h"
#include "sets.h"
#include "table64.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static void map_scalar(const uint8_t *classes, size_t n, const uint8_t table[INTERP_CLASSES], uint8_t *groups)
{
    for (size_t i = 0; i < n; i++)
        groups[i] = classes[i] < INTERP_CLASSES ? table[classes[i]] : INTERP_NO_GROUP;
}

INLINE void skip_body(const uint8_t *zeros, size_t n, uint8_t *classes)
{
    for (size_t i = 0; i < n; i++)
        classes[i] = zeros[i] ? INTERP_SKIPPED : classes[i];
}
static void skip_scalar(const uint8_t *zeros, size_t n, uint8_t *classes) { skip_body(zeros, n, classes); }

static void count_scalar(const uint8_t *groups, size_t n, unsigned count, uint32_t counts[INTERP_GROUPS])
{
    uint32_t all[256];
    histogram_u8(groups, n, SZD_ISA_SCALAR, all);
    for (unsigned k = 0; k < count; k++)
        counts[k] += all[k];
}

/* Neighbours are mostly of one group: eight are moved at once. */
INLINE bool all_of_one(const uint8_t *groups)
{
    uint64_t g = load_u64(groups);
    return g == (g & 255) * 0x0101010101010101;
}

static void split_some(const uint8_t *groups, const uint8_t *symbols, size_t n, uint8_t *to[INTERP_GROUPS])
{
    for (size_t i = 0; i < n; i++)
        if (groups[i] != INTERP_NO_GROUP)
            *to[groups[i]]++ = symbols[i];
}

static void split_scalar(const uint8_t *groups, const uint8_t *symbols, size_t n, unsigned count,
                         uint8_t *to[INTERP_GROUPS])
{
    (void)count;
    for (; n >= 8; n -= 8, groups += 8, symbols += 8) {
        if (!all_of_one(groups)) {
            split_some(groups, symbols, 8, to);
        } else if (*groups != INTERP_NO_GROUP) {
            memcpy(to[*groups], symbols, 8);
            to[*groups] += 8;
        }
    }
    split_some(groups, symbols, n, to);
}

static void merge_some(const uint8_t *groups, size_t n, const uint8_t *from[INTERP_GROUPS], uint8_t *symbols)
{
    for (size_t i = 0; i < n; i++)
        symbols[i] = groups[i] != INTERP_NO_GROUP ? *from[groups[i]]++ : INTERP_CENTRE;
}

static void merge_scalar(const uint8_t *groups, size_t n, unsigned count, const uint8_t *from[INTERP_GROUPS],
                         uint8_t *symbols)
{
    (void)count;
    for (; n >= 8; n -= 8, groups += 8, symbols += 8) {
        if (!all_of_one(groups)) {
            merge_some(groups, 8, from, symbols);
        } else if (*groups != INTERP_NO_GROUP) {
            memcpy(symbols, from[*groups], 8);
            from[*groups] += 8;
        } else {
            memset(symbols, INTERP_CENTRE, 8);
        }
    }
    merge_some(groups, n, from, symbols);
}

#if defined(__x86_64__)
enum { SLOTS = 32, NO_SLOT = INTERP_NO_GROUP % SLOTS };

/* Where the members of a set of 8 places are, in order. The `rank`th is where the first members are no more than rank.
 */
#define FEWER(set, rank, place) (__builtin_popcount((set) & ((2 << (place)) - 1)) <= (rank))
#define PLACE(set, rank)                                                                                           \
    (FEWER(set, rank, 0) + FEWER(set, rank, 1) + FEWER(set, rank, 2) + FEWER(set, rank, 3) + FEWER(set, rank, 4) + \
     FEWER(set, rank, 5) + FEWER(set, rank, 6) + FEWER(set, rank, 7))
static const uint8_t together[256][8] __attribute__((aligned(64))) = ROWS(PLACE);

TARGET_AVX2 INLINE __m256i load_32(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }

TARGET_AVX2 static void map_avx2(const uint8_t *classes, size_t n, const uint8_t table[INTERP_CLASSES], uint8_t *groups)
{
    const table64 of = table64_load(table);
    const __m256i most = _mm256_set1_epi8(INTERP_CLASSES - 1);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i c = load_32(classes + i);
        __m256i there = _mm256_cmpeq_epi8(_mm256_max_epu8(c, most), most);
        __m256i g = _mm256_or_si256(table64_look_up(&of, c), _mm256_andnot_si256(there, _mm256_set1_epi8(-1)));
        _mm256_storeu_si256((__m256i *)(void *)(groups + i), g);
    }
    map_scalar(classes + i, n - i, table, groups + i);
}

/* Counts of at most 255 vectors stay below 256 in each byte. */
TARGET_AVX2 static void count_avx2(const uint8_t *groups, size_t n, unsigned count, uint32_t counts[INTERP_GROUPS])
{
    size_t i = 0;
    for (size_t part; n - i >= 32; i += part) {
        part = n - i < 255 * 32 ? (n - i) / 32 * 32 : 255 * 32;
        for (unsigned k = 0; k < count; k++) {
            __m256i of = _mm256_set1_epi8((char)k), sum = _mm256_setzero_si256();
            uint64_t sums[4];
            for (size_t j = i; j < i + part; j += 32)
                sum = _mm256_sub_epi8(sum, _mm256_cmpeq_epi8(load_32(groups + j), of));
            _mm256_storeu_si256((__m256i *)(void *)sums, _mm256_sad_epu8(sum, _mm256_setzero_si256()));
            counts[k] += (uint32_t)(sums[0] + sums[1] + sums[2] + sums[3]);
        }
    }
    for (; i < n; i++)
        if (groups[i] != INTERP_NO_GROUP)
            counts[groups[i]]++;
}

TARGET_AVX2 static void skip_avx2(const uint8_t *zeros, size_t n, uint8_t *classes) { skip_body(zeros, n, classes); }

/* Where a group's next symbols are; what belongs to none is written to and read from `none`, and stays there. */
typedef struct cursors {
    uint8_t *at[SLOTS];
    uint8_t none[16];
} cursors;

static void begin_cursors(cursors *c, uint8_t *const *at, unsigned count)
{
    memcpy(c->at, at, count * sizeof *at);
    memset(c->none, INTERP_CENTRE, sizeof c->none);
    c->at[NO_SLOT] = c->none;
}

/* Those of 16 neighbours that are of the group of the first that is left; where the group's symbols are. */
typedef struct group_part {
    __m128i of;
    unsigned set;
    uint8_t *at;
} group_part;

TARGET_AVX2 INLINE group_part next_part(__m128i g, const uint8_t *groups, unsigned left, cursors *c)
{
    group_part p;
    uint8_t group = groups[__builtin_ctz(left)];
    p.of = _mm_cmpeq_epi8(g, _mm_set1_epi8((char)group));
    p.set = (unsigned)_mm_movemask_epi8(p.of);
    uint8_t **cursor = c->at + group % SLOTS;
    p.at = *cursor;
    *cursor += group == INTERP_NO_GROUP ? 0 : __builtin_popcount(p.set);
    return p;
}

TARGET_AVX2 INLINE __m128i load_16(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }

/* The bytes of a set of 8 places side by side at `to`. */
TARGET_AVX2 INLINE void put_together(__m128i bytes, unsigned set, uint8_t *to)
{
    __m128i order = _mm_loadl_epi64((const __m128i *)(const void *)together[set]);
    _mm_storel_epi64((__m128i *)(void *)to, _mm_shuffle_epi8(bytes, order));
}

TARGET_AVX2 static void split_avx2(const uint8_t *groups, const uint8_t *symbols, size_t n, unsigned count,
                                   uint8_t *to[INTERP_GROUPS])
{
    cursors c;
    size_t i = 0;
    begin_cursors(&c, to, count);
    for (; i + 16 <= n; i += 16) {
        __m128i g = load_16(groups + i), s = load_16(symbols + i);
        for (unsigned left = 0xffff; left;) {
            group_part p = next_part(g, groups + i, left, &c);
            put_together(s, p.set & 255, p.at);
            put_together(_mm_srli_si128(s, 8), p.set >> 8, p.at + __builtin_popcount(p.set & 255));
            left &= ~p.set;
        }
    }
    memcpy(to, c.at, count * sizeof *to);
    split_some(groups + i, symbols + i, n - i, to);
}

/* In all places of `of` the number of those before it; elsewhere 255. */
TARGET_AVX2 INLINE __m128i ranks(__m128i of)
{
    __m128i minus = _mm_add_epi8(of, _mm_slli_si128(of, 1));
    minus = _mm_add_epi8(minus, _mm_slli_si128(minus, 2));
    minus = _mm_add_epi8(minus, _mm_slli_si128(minus, 4));
    minus = _mm_add_epi8(minus, _mm_slli_si128(minus, 8));
    return _mm_xor_si128(_mm_and_si128(minus, of), _mm_set1_epi8(-1));
}

TARGET_AVX2 static void merge_avx2(const uint8_t *groups, size_t n, unsigned count, const uint8_t *from[INTERP_GROUPS],
                                   uint8_t *symbols)
{
    cursors c;
    size_t i = 0;
    begin_cursors(&c, (uint8_t *const *)from, count);
    for (; i + 16 <= n; i += 16) {
        __m128i g = load_16(groups + i), s = _mm_setzero_si128();
        for (unsigned left = 0xffff; left;) {
            group_part p = next_part(g, groups + i, left, &c);
            s = _mm_or_si128(s, _mm_shuffle_epi8(load_16(p.at), ranks(p.of)));
            left &= ~p.set;
        }
        _mm_storeu_si128((__m128i *)(void *)(symbols + i), s);
    }
    memcpy(from, c.at, count * sizeof *from);
    merge_some(groups + i, n - i, from, symbols + i);
}

static inline uint64_t lanes(size_t n) { return n < 64 ? ((uint64_t)1 << n) - 1 : ~(uint64_t)0; }

TARGET_AVX512 static void map_avx512(const uint8_t *classes, size_t n, const uint8_t table[INTERP_CLASSES],
                                     uint8_t *groups)
{
    __m512i of = _mm512_loadu_si512(table);
    for (size_t i = 0; i < n; i += 64) {
        __mmask64 there = lanes(n - i);
        __m512i c = _mm512_maskz_loadu_epi8(there, classes + i), g = _mm512_permutexvar_epi8(c, of);
        __mmask64 none = _mm512_cmpge_epu8_mask(c, _mm512_set1_epi8(INTERP_CLASSES));
        g = _mm512_mask_mov_epi8(g, none, _mm512_set1_epi8((char)INTERP_NO_GROUP));
        _mm512_mask_storeu_epi8(groups + i, there, g);
    }
}

TARGET_AVX512 static void skip_avx512(const uint8_t *zeros, size_t n, uint8_t *classes)
{
    for (size_t i = 0; i < n; i += 64) {
        __mmask64 there = lanes(n - i);
        __m512i z = _mm512_maskz_loadu_epi8(there, zeros + i);
        _mm512_mask_storeu_epi8(classes + i, _mm512_test_epi8_mask(z, z), _mm512_set1_epi8(INTERP_SKIPPED));
    }
}

TARGET_AVX512 static void count_avx512(const uint8_t *groups, size_t n, unsigned count, uint32_t counts[INTERP_GROUPS])
{
    for (size_t i = 0; i < n; i += 64) {
        __mmask64 there = lanes(n - i);
        __m512i g = _mm512_maskz_loadu_epi8(there, groups + i);
        for (unsigned k = 0; k < count; k++)
            counts[k] += (uint32_t)_mm_popcnt_u64(_mm512_mask_cmpeq_epi8_mask(there, g, _mm512_set1_epi8((char)k)));
    }
}

/* Writes up to 64 bytes beyond each group's end. */
TARGET_AVX512 static void split_avx512(const uint8_t *groups, const uint8_t *symbols, size_t n, unsigned count,
                                       uint8_t *to[INTERP_GROUPS])
{
    for (size_t i = 0; i < n; i += 64) {
        __mmask64 there = lanes(n - i);
        __m512i g = _mm512_maskz_loadu_epi8(there, groups + i), s = _mm512_maskz_loadu_epi8(there, symbols + i);
        for (unsigned k = 0; k < count; k++) {
            __mmask64 of = _mm512_mask_cmpeq_epi8_mask(there, g, _mm512_set1_epi8((char)k));
            _mm512_storeu_si512(to[k], _mm512_maskz_compress_epi8(of, s));
            to[k] += _mm_popcnt_u64(of);
        }
    }
}

/* Reads up to 64 bytes beyond each group's end. */
TARGET_AVX512 static void merge_avx512(const uint8_t *groups, size_t n, unsigned count,
                                       const uint8_t *from[INTERP_GROUPS], uint8_t *symbols)
{
    for (size_t i = 0; i < n; i += 64) {
        __mmask64 there = lanes(n - i);
        __m512i g = _mm512_maskz_loadu_epi8(there, groups + i), s = _mm512_set1_epi8((char)INTERP_CENTRE);
        for (unsigned k = 0; k < count; k++) {
            __mmask64 of = _mm512_mask_cmpeq_epi8_mask(there, g, _mm512_set1_epi8((char)k));
            s = _mm512_mask_expand_epi8(s, of, _mm512_loadu_si512(from[k]));
            from[k] += _mm_popcnt_u64(of);
        }
        _mm512_mask_storeu_epi8(symbols + i, there, s);
    }
}
#endif

void interp_groups_map(const uint8_t *classes, size_t n, const uint8_t table[INTERP_CLASSES], uint32_t isa,
                       uint8_t *groups)
{
    PICK_X86(isa, map)(classes, n, table, groups);
}

void interp_groups_skip(const uint8_t *zeros, size_t n, uint32_t isa, uint8_t *classes)
{
    PICK_X86(isa, skip)(zeros, n, classes);
}

void interp_groups_count(const uint8_t *groups, size_t n, unsigned count, uint32_t isa, uint32_t counts[INTERP_GROUPS])
{
    memset(counts, 0, INTERP_GROUPS * sizeof *counts);
    PICK_X86(isa, count)(groups, n, count, counts);
}

void interp_groups_split(const uint8_t *groups, const uint8_t *symbols, size_t n, unsigned count, uint32_t isa,
                         uint8_t *to[INTERP_GROUPS])
{
    PICK_X86(isa, split)(groups, symbols, n, count, to);
}

void interp_groups_merge(const uint8_t *groups, size_t n, unsigned count, uint32_t isa,
                         const uint8_t *from[INTERP_GROUPS], uint8_t *symbols)
{
    PICK_X86(isa, merge)(groups, n, count, from, symbols);
}

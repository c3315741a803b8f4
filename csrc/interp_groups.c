/* Sorting a stage's symbols by group, and back. */
#include "interp.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static void map_scalar(const uint8_t *classes, size_t n, const uint8_t table[INTERP_CLASSES], uint8_t *groups)
{
    for (size_t i = 0; i < n; i++)
        groups[i] = classes[i] < INTERP_CLASSES ? table[classes[i]] : INTERP_NO_GROUP;
}

static void skip_scalar(const uint8_t *zeros, size_t n, uint8_t *classes)
{
    for (size_t i = 0; i < n; i++)
        classes[i] = zeros[i] ? INTERP_SKIPPED : classes[i];
}

static void split_scalar(const uint8_t *groups, const uint8_t *symbols, size_t n, unsigned count,
                         uint8_t *to[INTERP_GROUPS])
{
    (void)count;
    for (size_t i = 0; i < n; i++)
        if (groups[i] != INTERP_NO_GROUP)
            *to[groups[i]]++ = symbols[i];
}

static void merge_scalar(const uint8_t *groups, size_t n, unsigned count, const uint8_t *from[INTERP_GROUPS],
                         uint8_t *symbols)
{
    (void)count;
    for (size_t i = 0; i < n; i++)
        symbols[i] = groups[i] != INTERP_NO_GROUP ? *from[groups[i]]++ : INTERP_CENTRE;
}

#if defined(__x86_64__)
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
    PICK_WIDE(isa, map)(classes, n, table, groups);
}

void interp_groups_skip(const uint8_t *zeros, size_t n, uint32_t isa, uint8_t *classes)
{
    PICK_WIDE(isa, skip)(zeros, n, classes);
}

void interp_groups_count(const uint8_t *groups, size_t n, unsigned count, uint32_t isa, uint32_t counts[INTERP_GROUPS])
{
#if defined(__x86_64__)
    if (isa >= SZD_ISA_AVX512) {
        memset(counts, 0, INTERP_GROUPS * sizeof *counts);
        count_avx512(groups, n, count, counts);
        return;
    }
#endif
    uint32_t all[256];
    (void)count;
    histogram_u8(groups, n, isa, all);
    memcpy(counts, all, INTERP_GROUPS * sizeof *counts);
}

void interp_groups_split(const uint8_t *groups, const uint8_t *symbols, size_t n, unsigned count, uint32_t isa,
                         uint8_t *to[INTERP_GROUPS])
{
    PICK_WIDE(isa, split)(groups, symbols, n, count, to);
}

void interp_groups_merge(const uint8_t *groups, size_t n, unsigned count, uint32_t isa,
                         const uint8_t *from[INTERP_GROUPS], uint8_t *symbols)
{
    PICK_WIDE(isa, merge)(groups, n, count, from, symbols);
}

/* What rans.c and its vector kernels share. */
#ifndef SZD_RANS_H
#define SZD_RANS_H
#include "internal.h"

#define RANS_STATE_MIN 65536u

/* Nearly all symbols are the same one: few words are stored. */
static inline bool rans_words_are_rare(const freq_table *t) { return t->f[t->top] > PROB_SUM * 3 / 4; }

/* Alphabets of at most this many neighbouring symbols: the AVX-512 encoder keeps their tables in registers, in the more
 * of them the more symbols there are. */
enum { RANS_FEW = 32, RANS_MORE = 64, RANS_NARROW = 128 };

typedef struct rans_encode_table {
    uint32_t slots[256];      /* by the symbol: frequency << 12 | first slot, the sum of the frequencies below */
    uint64_t reciprocal[256]; /* ceil(2^44 / frequency) */
    uint16_t f[RANS_NARROW], first[RANS_NARROW]; /* by narrow_map's symbol, of at most so many */
    symbol_map narrow_map;
    bool words_are_rare;
    unsigned span; /* how many neighbouring symbols */
} rans_encode_table;

/* The entry of slot 0. */
static inline const uint32_t *rans_table(const rans_decoder *d) { return d->entries + RANS_MARGIN; }

/* rans_groups.c */
uint8_t *rans_encode_groups(const rans_encode_table *e, const uint8_t *symbols, size_t groups, uint32_t *state,
                            size_t lanes, uint8_t *at);
size_t rans_decode_groups(rans_decoder *d, uint8_t *out, size_t n);

#if defined(__x86_64__)
/* Their twins, for 16 (AVX-512: 32) to 64 lanes. */
uint8_t *rans_encode_groups_avx512(const rans_encode_table *e, const uint8_t *symbols, size_t groups, uint32_t *state,
                                   size_t lanes, uint8_t *at);
uint8_t *rans_encode_groups_avx2(const rans_encode_table *e, const uint8_t *symbols, size_t groups, uint32_t *state,
                                 size_t lanes, uint8_t *at);
size_t rans_decode_groups_avx512(rans_decoder *d, uint8_t *out, size_t n);
size_t rans_decode_groups_avx2(rans_decoder *d, uint8_t *out, size_t n);
#endif
#endif

/* What rans.c and its vector kernels share. */
#ifndef SZD_RANS_H
#define SZD_RANS_H
#include "internal.h"

#define RANS_STATE_MIN 65536u

/* Alphabets of at most this many neighbouring symbols: the AVX-512 encoder keeps their tables in registers. */
enum { RANS_NARROW = 64 };

typedef struct rans_encode_table {
    uint32_t slots[256];                         /* frequency << 12 | first slot, the sum of the frequencies below */
    uint64_t reciprocal[256];                    /* ceil(2^44 / frequency) */
    uint16_t f[RANS_NARROW], first[RANS_NARROW]; /* from `lo` on, if narrow */
    uint8_t lo, hi;
    bool narrow;
} rans_encode_table;

#if defined(__x86_64__)
/* The twins of encode_scalar and decode_groups in rans.c, for 16, 32 or 64 lanes. */
uint8_t *rans_encode_groups_avx512(const rans_encode_table *e, const uint8_t *symbols, size_t groups, uint32_t *state,
                                   size_t lanes, uint8_t *at);
uint8_t *rans_encode_groups_avx2(const rans_encode_table *e, const uint8_t *symbols, size_t groups, uint32_t *state,
                                 size_t lanes, uint8_t *at);
size_t rans_decode_groups_avx2(rans_decoder *d, uint8_t *out, size_t n);
#endif
#endif

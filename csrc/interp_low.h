/* Residuals whose lowest bits are stored as they are; the others' symbols say what is above them. */
#ifndef SZD_INTERP_LOW_H
#define SZD_INTERP_LOW_H
#include "interp.h"

/* Raw low bits of a group at most. */
enum { INTERP_MOST_LOW = 24 };

static inline int32_t interp_centred(int32_t q, unsigned k) { return (int32_t)((uint32_t)q + ((1u << k) >> 1)); }

/* 0 for those beyond the symbols. */
static inline unsigned interp_symbol(int32_t q, unsigned k)
{
    uint32_t s = (uint32_t)(interp_centred(q, k) >> k) + INTERP_CENTRE;
    return s < 256 ? s : 0;
}

/* Where a reader of bits is: so many bits into a byte. */
typedef struct bit_place {
    const uint8_t *at;
    unsigned offset;
} bit_place;

static inline void bit_place_advance(bit_place *p, unsigned bits)
{
    p->offset += bits;
    p->at += p->offset >> 3;
    p->offset &= 7;
}

/* k: of each group, at most INTERP_MOST_LOW; values of INTERP_NO_GROUP have no low bits. */
void interp_low_split(const int32_t *q, const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS], uint32_t isa,
                      uint8_t *symbols, bit_writer *low);
/* Of each value its symbol and 256 x its class, of whose bits only those in `mask` count. k: of each class, those of
 * INTERP_SKIPPED 0. */
void interp_low_cells(const int32_t *q, const uint8_t *classes, size_t n, uint8_t mask,
                      const uint8_t k[INTERP_CLASSES + 1], uint32_t isa, uint16_t *cells);
/* A bit for each value whose symbol is not from its group's least to its most; not for those of INTERP_NO_GROUP. */
void interp_low_outside(const uint8_t *symbols, const uint8_t *groups, size_t n, const uint8_t least[INTERP_GROUPS],
                        const uint8_t most[INTERP_GROUPS], uint32_t isa, uint64_t *outside);
/* What symbols stand for without low bits. */
void interp_low_widen(const uint8_t *symbols, size_t n, uint32_t isa, int32_t *q);
/* q: what is above the low bits; then residuals. low->failed where the bits end too early. */
void interp_low_join(const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS], uint32_t isa, bit_reader *low,
                     int32_t *q);

/* interp_low_avx2.c: these return how many values they did. */
size_t interp_low_split_avx2(const int32_t *q, const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS],
                             uint8_t *symbols, bit_writer *low);
size_t interp_low_cells_avx2(const int32_t *q, const uint8_t *classes, size_t n, uint8_t mask,
                             const uint8_t k[INTERP_CLASSES + 1], uint16_t *cells);
size_t interp_low_outside_avx2(const uint8_t *symbols, const uint8_t *groups, size_t n,
                               const uint8_t least[INTERP_GROUPS], const uint8_t most[INTERP_GROUPS],
                               uint64_t *outside);
size_t interp_low_join_avx2(const uint8_t *groups, size_t n, const uint8_t k[INTERP_GROUPS], const uint8_t *end,
                            bit_place *place, int32_t *q);
#endif

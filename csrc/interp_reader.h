/* What interp_read.c finds in a block and interp_decode.c makes values of. */
#ifndef SZD_INTERP_READER_H
#define SZD_INTERP_READER_H
#include "interp.h"

enum { INTERP_BATCH = 4096 }; /* residuals at a time */

typedef struct stage_group {
    uint8_t first, constant;
    const freq_table *table; /* NULL: constant */
} stage_group;

typedef struct stage_head {
    int16_t weights[2][INTERP_TAPS]; /* the border's last */
    unsigned groups;
    bool apart;               /* the border has weights of its own */
    bool low_bits;            /* of any group */
    uint8_t k[INTERP_GROUPS]; /* how many */
    stage_group group[INTERP_GROUPS];
} stage_head;

typedef struct interp_reader {
    const szd_header *h;
    const tile *t;
    uint32_t isa;
    bool masked;
    interp_walk walk;
    interp_plan plan;
    stage_head heads[INTERP_STAGES];
    freq_table tables[INTERP_TABLES];
    uint8_t table_k[INTERP_TABLES];
    unsigned table_count;
    rans_decoder rans;
    symbol_decoder mask_symbols;
    int32_t anchor;
    bool any_escapes;
    uint64_t escapes_left;
    unsigned escape_order;
    bit_reader escapes, low;
    uint8_t *mask, *empty, *classes, *symbols,
        *values; /* the mask is in the order of the stages, without the first value */
    bool first_is_zero;
    double unit; /* predictions are multiples of it, 0: any value */
    /* of the stage at hand */
    double step;
    const uint8_t *from[INTERP_GROUPS];
    size_t made, have; /* residuals: all so far, and those that are left of q */
    int32_t *q;
} interp_reader;
#endif

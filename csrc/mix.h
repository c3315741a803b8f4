/* The mixing coder's state (FORMAT.md, section 9): shared by mix.c, mix_model.c and mix_range.h only. */
#ifndef SZD_MIX_H
#define SZD_MIX_H
#include "internal.h"

enum {
    MIX_MODELS = 7,
    MIX_SIGNS = 4,
    MIX_AXES = 4,
    MIX_LEVELS = 96, /* of 1/8 octave: scales from 2^-6 to 2^6 */
    MIX_ROW = 384,   /* levels x shifts 0, 1, 2, more */
    MIX_NODES = 64,  /* decisions of the magnitude's tree */
    MIX_ROWS = 12 * MIX_ROW,
    MIX_COLUMNS = 65536,
    MIX_STRETCH = 2815, /* log-odds in 1/256, at most 11 */
    MIX_ESCAPE = 15,    /* magnitude classes below it are modelled */
};

/* What is remembered of a column. Scales are log2 in 1/65536; normalised values have 1/4096 as their unit. */
typedef struct mix_column {
    int32_t scale;          /* by which the column differs from the tensor */
    int32_t info;           /* how much was seen of it, in 1/256 of a value */
    int32_t mean;           /* of the normalised values */
    int32_t recent;         /* the same, of the last few rows */
    int32_t trend;          /* of the scale: what the last rows said */
    int32_t axes[MIX_AXES]; /* directions along which rows differ most */
    int32_t offset;         /* of this row's (the last row's) normalised value from the mean */
    int32_t size;           /* of this row's (the last row's) normalised value, in 1/256, at most 1024 */
} mix_column;

typedef struct mix_tables {
    uint16_t squash[2 * MIX_STRETCH + 1]; /* log-odds to probability in 1/65536 */
    int16_t stretch[4096];                /* and back, by its top 12 bits */
    uint32_t fall[256];                   /* 2^16 x 2^(-i / 256) */
    uint16_t info[256];                   /* what a value tells of its scale */
    uint16_t rate[1024];                  /* of adaptive probabilities, by how often they were used */
    uint16_t learn[256];                  /* of weights, by how often their node was used */
} mix_tables;

/* Lanes beyond the last model stay 0, so that a vector of 8 can be used. */
typedef struct mix_weights {
    int32_t of[8];
} mix_weights;

/* The arithmetic coder, one way: encoding `low`, decoding `code`. 2^32 <= range < 2^64 between decisions. */
typedef struct mix_range {
    uint64_t range, low, code;
    const uint8_t *at, *end;
    writer *out;
    uint8_t *start;
    bool failed;
} mix_range;

typedef struct mix_model {
    mix_tables t;
    mix_range coder;
    uint32_t slots[MIX_ROWS][MIX_NODES]; /* probability << 10 | times used */
    uint32_t signs[MIX_SIGNS][256];
    mix_weights by_node[MIX_NODES * 4], by_trust[72], by_class[8], by_sign;
    uint8_t used[MIX_NODES];
    size_t width, column;
    uint32_t rows;
    int32_t mean_scale, row_scale, row_info;   /* as mix_column's */
    int64_t along[MIX_AXES], length[MIX_AXES]; /* sums of offset x axis and axis^2 over this row */
    int32_t share[MIX_AXES];                   /* of each axis in this row, 1/4096 */
    uint32_t left, left2;                      /* normalised sizes, 1/256 */
    mix_column *columns;                       /* one more at either end */
} mix_model;

/* What the model makes of the next value's place. */
typedef struct mix_place {
    int32_t scale; /* log2 of the expected magnitude in 1/256 */
    unsigned shift, start, kind;
    int32_t mean, along;
    int32_t parts[MIX_AXES]; /* what `along` is the sum of */
    uint32_t *rows[MIX_MODELS];
    mix_weights *trust;
} mix_place;

void mix_tables_make(mix_tables *t);
void mix_model_begin(mix_model *m, size_t width, size_t phase, unsigned level, mix_column *columns);
uint32_t mix_normalise(const mix_tables *t, uint32_t magnitude, int32_t scale);
void mix_next_row(mix_model *m);
int32_t mix_quantise(int64_t v);

static inline int32_t clamp_i32(int64_t v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : (int32_t)v;
}

/* log2 in 1/256, its mantissa taken as linear; v > 0. */
static inline int32_t mix_log2(uint32_t v)
{
    unsigned e = bit_length(v) - 1;
    return (int32_t)(e << 8 | ((e > 8 ? v >> (e - 8) : v << (8 - e)) & 255));
}
#endif

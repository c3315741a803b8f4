/* A tile's way through the interpolation predictor's encoder: what interp_encode.c makes and interp_symbols.c codes. */
#ifndef SZD_INTERP_JOB_H
#define SZD_INTERP_JOB_H
#include "interp.h"

typedef struct stage_plan {
    int16_t weights[2][INTERP_TAPS]; /* the border's last */
    bool fitted[2];
} stage_plan;

typedef struct interp_job {
    const szd_header *h;
    const tile *t;
    const uint8_t *values;
    uint32_t isa, coder;
    double unit; /* predictions are multiples of it, 0: any value */
    interp_quantizer z;
    bool factored;
    unsigned order; /* of the axes */
    interp_walk walk;
    interp_plan plan;
    stage_plan stages[INTERP_STAGES];
    uint8_t *x;       /* room for the tile in the work type until it is sorted; then the memory is what is known */
    uint64_t first;   /* its first value, in the work type */
    uint8_t *coming;  /* the others in the order of the stages */
    uint8_t *bits;    /* of zeros, where there are many */
    uint8_t *refused; /* of each element: why its value is to be stored */
    size_t refusals;
    int32_t *q; /* residuals, stage after stage */
    uint8_t *classes;
    uint8_t *empty; /* of the rows of a stage */
    int32_t anchor;
    uint8_t *work; /* for fitting */
    uint8_t *rest; /* of the scratch memory, once there are residuals */
} interp_job;

size_t interp_symbols_scratch(size_t n);
#endif

/* A tile's way through the interpolation predictor's encoder: first all residuals, which tells what is refused; then
 * the block's part. */
#ifndef SZD_INTERP_ENCODE_H
#define SZD_INTERP_ENCODE_H
#include "internal.h"

typedef struct interp_job interp_job;
/* Outliers are written in it, too, before interp_write. */
size_t interp_encode_scratch(const szd_header *h);
/* Moves `scratch` on to where outliers may be gathered. */
interp_job *interp_run(const szd_header *h, const szd_options *options, const tile *t, const uint8_t *values,
                       uint8_t **scratch);
/* Of each element of the tile whether it is to be stored; NULL if none is. */
const uint8_t *interp_refused(const interp_job *job);
void interp_write(interp_job *job, writer *w);

enum { PLACE_BITS = 8 }; /* of a stored value, about */
/* In 1/65536 bit: symbols, low bits and what is stored; tables, which longer tiles have about as many of. */
typedef struct interp_estimate {
    uint64_t payload, tables;
} interp_estimate;
/* What interp_write would write, about, in a small part of its time. */
interp_estimate interp_look(interp_job *job);
#endif

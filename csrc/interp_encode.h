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
#endif

/* The decoder's side of the interpolation predictor. */
#ifndef SZD_INTERP_DECODE_H
#define SZD_INTERP_DECODE_H
#include "internal.h"

typedef struct interp_reader interp_reader;
size_t interp_decode_scratch(const szd_header *h);
/* Everything up to the symbols is read and checked; the reader is at its end then. */
int interp_begin(const szd_header *h, const tile *t, reader *r, uint32_t isa, uint8_t **scratch, interp_reader **out);
/* Every 2^level-th value along each axis of the tile. */
int interp_decode(interp_reader *d, unsigned level, sink *out);
#endif

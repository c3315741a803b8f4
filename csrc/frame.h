/* What the files about a frame's header share. */
#ifndef SZD_FRAME_H
#define SZD_FRAME_H
#include "fpenv.h"
#include "internal.h"

/* frame_read.c */
int read_shape(reader *r, szd_header *h);
int set_bound(unsigned kind_and_flags, uint64_t digits, uint64_t exponent, reader *range, szd_header *h);
int set_geometric(uint64_t points, uint64_t first, unsigned signs, double pointwise, szd_header *h);
int read_fields(reader *r, szd_header *h, unsigned least, unsigned most);

/* frame_write.c: bound_range: the range, where it is given; the fields: tiles, predictor, axis, and what ends them */
void write_bound_range(const szd_header *h, writer *w);
bool has_fields(const szd_header *h);
void write_fields(const szd_header *h, writer *w);

/* frame_single.c */
bool is_single(const uint8_t *frame, size_t size);
int read_single(const uint8_t *frame, size_t size, szd_header *h);
void write_single_start(const szd_header *h, uint64_t frame_bytes, writer *w);
#endif

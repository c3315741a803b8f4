/* szdnn: error-bounded compression of float tensors. The whole public C interface.
 *
 * The caller owns every buffer; nothing here allocates, keeps state or starts threads, so all functions may be
 * called from any number of threads at once as long as their output and scratch buffers differ. The format is
 * specified in FORMAT.md. Functions that compute with floats set round-to-nearest with denormals kept, and restore
 * the caller's floating-point environment before they return.
 */
#ifndef SZDNN_H
#define SZDNN_H
#include <stddef.h>
#include <stdint.h>

typedef enum szd_status {
    SZD_OK = 0,
    /* the caller's fault */
    SZD_ARGUMENT = 1,
    SZD_BUFFER_TOO_SMALL = 2,
    SZD_REFERENCE = 3,
    /* made by a newer version */
    SZD_NEW_VERSION = 20,
    SZD_NEW_FIELD = 21,
    SZD_NEW_KIND = 22,
    SZD_NEW_DTYPE = 23,
    /* damaged: the frame as a whole */
    SZD_MAGIC = 40,
    SZD_TRUNCATED = 41,
    SZD_TRAILING = 42,
    SZD_HEADER_CRC = 43,
    SZD_HEADER_FIELD = 44,
    SZD_HEADER_SHAPE = 45,
    SZD_HEADER_TILES = 46,
    SZD_HEADER_BOUND = 47,
    SZD_HEADER_PREDICTOR = 48,
    SZD_FRAME_CRC = 49,
    SZD_FRAME_SHORT = 50,
    /* damaged: one block */
    SZD_BLOCK_MODE = 61,
    SZD_BLOCK_SHORT = 62,
    SZD_BLOCK_TRAILING = 63,
    SZD_BLOCK_TABLE = 64,
    SZD_BLOCK_CODES = 65,
    SZD_BLOCK_OUTLIERS = 66,
    SZD_BLOCK_ESCAPES = 67,
    SZD_BLOCK_NUMBERS = 68
} szd_status;

enum szd_limits {
    SZD_MAX_RANK = 64,
    SZD_MAX_TILE_RANK = 4,
    SZD_MAX_TILE = 1 << 17, /* with a predictor */
    SZD_MAX_INTERP_TILE = 1 << 20,
    SZD_MAX_REPEAT_TILE = 1 << 20,
    SZD_MAX_LAG = 1 << 17,
    SZD_MOST_SNAP = 15,
    SZD_DEFAULT_TILE = 1 << 18,
    SZD_LONG_TILE = 1 << 20,
    SZD_MAX_SINGLE = 1 << 16, /* bytes of a frame in the layout of small ones */
    SZD_INDEX_ENTRY = 8
};

enum szd_kind { SZD_LOSSLESS = 0, SZD_LINEAR32 = 1, SZD_LINEAR64 = 2, SZD_GEOMETRIC = 3 };
enum szd_predictor {
    SZD_PREDICT_NONE = 0,
    SZD_PREDICT_LORENZO = 1,
    SZD_PREDICT_REGRESSION = 2,
    SZD_PREDICT_REFERENCE = 3,
    SZD_PREDICT_INTERPOLATION = 4,
    SZD_PREDICT_REPEAT = 5
};
enum szd_coder {
    SZD_CODER_AUTO = 0,
    SZD_CODER_HUFFMAN = 2,
    SZD_CODER_RANS = 3,
    SZD_CODER_CLASSES = 4,
    SZD_CODER_MIXING = 5,
    SZD_CODER_SPARSE = 6
};
enum szd_isa { SZD_ISA_AUTO = 0, SZD_ISA_SCALAR = 1, SZD_ISA_AVX2 = 2, SZD_ISA_AVX512 = 3, SZD_ISA_NEON = 4 };

/* What a frame's header says (FORMAT.md, section 2). Filled by the caller before encoding, by szd_header_read before
 * decoding. axis_eps points at shape[axis] little-endian binary64 numbers, reference_digests at `blocks` little-endian
 * 64-bit ones, unaligned, in the caller's memory; the latter need not be known before szd_header_write. */
typedef struct szd_header {
    uint32_t dtype;
    uint32_t rank;
    uint64_t shape[64];
    uint32_t single; /* the layout of small frames: one block, one checksum (FORMAT.md, section 2.2) */
    uint32_t kind;
    uint32_t bound_kind;
    uint32_t bound_flags;
    int64_t bound_digits; /* the bound's parameter as a decimal: digits x 10^exponent; an absolute bound's 0: eps */
    int32_t bound_exponent;
    double bound_lo;
    double bound_hi;
    double eps;
    double step;
    uint32_t wide_bits;
    uint32_t points_per_octave;
    int32_t first_index;
    uint32_t has_signs;
    double pointwise;
    uint32_t predictor;
    uint32_t edge;
    uint32_t fraction_bits;
    uint32_t lag;  /* in elements, of the predictor repeat */
    uint32_t snap; /* interpolation: predictions are multiples of step / snap; 0: any value */
    uint32_t reference_dtype;
    uint64_t reference_count;         /* of digests, as many as there are blocks */
    const uint8_t *reference_digests; /* szd_digest of each block's part of the reference */
    uint32_t tile_rank;
    uint64_t dims[4];
    uint64_t tile[4];
    uint32_t mixed; /* blocks may be coded by context mixing */
    uint32_t has_axis;
    uint32_t axis;
    const uint8_t *axis_eps;   /* shape[axis] numbers, or axis_values with */
    const uint8_t *axis_index; /* which of them is that of each index; or NULL */
    uint32_t axis_values;      /* at most 256 */
    /* derived by szd_header_complete and szd_header_read */
    uint32_t element_bytes;
    uint64_t elements;
    uint64_t blocks;
    uint64_t header_bytes;
} szd_header;

/* reference: with SZD_PREDICT_REFERENCE, elements of another tensor of the frame's shape, of header->reference_dtype,
 * C-contiguous, native byte order, any alignment. Encoding and estimating: all of them. Decoding a block: those at the
 * block's places, which may be the memory that is decoded into. */
typedef struct szd_options {
    uint32_t coder;
    uint32_t isa;
    const uint8_t *reference;
    uint32_t backward; /* encoding with predictor interpolation: the last axis first, not the first one */
    uint32_t level; /* decoding with predictor interpolation: only every 2^level-th value along each axis of the tile */
    uint32_t fast;  /* encoding: a table a stream, no classes of rows and columns */
} szd_options;

/* What a look over a tensor's values finds; min and max over the finite ones (0 when there are none). */
typedef struct szd_stats {
    uint64_t finite;
    double min;
    double max;
    uint32_t constant;
} szd_stats;

/* The difference of two tensors of one dtype. `violations` counts values beyond the bound in exact arithmetic, NaN and
 * infinities that changed, zeros that did not stay zero. Sums run over values finite in the original. */
typedef struct szd_difference {
    uint64_t violations;
    uint64_t unequal;
    uint64_t finite;
    double max_error;
    double max_fraction;
    double sum_squares;
} szd_difference;

const char *szd_status_text(int status);
uint32_t szd_isa_available(void);
uint32_t szd_crc32c(const uint8_t *data, size_t size);

/* The calling thread's floating-point environment, for callers that compute bounds themselves: sets what the core's own
 * functions work in (nearest, denormals kept), and restores what `enter` returned. */
uint64_t szd_environment_enter(void);
void szd_environment_leave(uint64_t saved);

/* Headers. `complete` checks a filled header and derives the rest; `single` is a wish that it drops where there are
 * blocks, or bounds, for which that layout has no place. `write` needs the block index (SZD_INDEX_ENTRY bytes a block,
 * little-endian length then CRC). `frame_single` makes the whole frame, header_bytes + size + 4 bytes (at most
 * SZD_MAX_SINGLE), of a header that kept its wish. `read` checks everything in the header, its CRC and the frame's
 * length; with `single`, the CRC of the whole frame, whose block lies from header_bytes to 4 bytes before the end.
 * `justified`: whether a frame of so many bytes may have such blocks; `read` refuses one that may not. */
int szd_header_complete(szd_header *header);
int szd_header_write(const szd_header *header, const uint8_t *index, uint8_t *out, size_t capacity);
int szd_frame_single(const szd_header *header, const uint8_t *block, size_t size, uint8_t *out, size_t capacity);
int szd_header_read(const uint8_t *frame, size_t size, szd_header *header);
uint32_t szd_frame_justified(const szd_header *header, uint64_t frame_bytes);

/* Blocks. Before a block is decoded, its bytes' szd_crc32c is to be compared with its index entry's. `data` and `out`
 * are the whole tensor's first element, C-contiguous, native byte order, any alignment. szd_encode_block never needs
 * more than szd_block_bound bytes of output. saving: by how many bytes at least the block is smaller than the same
 * elements stored losslessly in one block; of blocks longer than the default ones a sample may tell. */
size_t szd_block_bound(const szd_header *header);
size_t szd_encode_scratch(const szd_header *header);
size_t szd_decode_scratch(const szd_header *header);
int szd_encode_block(const szd_header *header, const szd_options *options, const uint8_t *data, uint64_t block,
                     uint8_t *scratch, size_t scratch_size, uint8_t *out, size_t capacity, size_t *size,
                     int64_t *saving);
/* With a reference, SZD_REFERENCE where it is missing or not the one that the block was made with.
 * strides: distance in elements between neighbours along each tile axis in `out`, whose first byte is the tile's first
 * element; the last stride is 1. */
int szd_decode_block(const szd_header *header, const szd_options *options, uint64_t block, const uint8_t *payload,
                     size_t size, uint8_t *scratch, size_t scratch_size, uint8_t *out, const uint64_t *strides);
int szd_tile_of_block(const szd_header *header, uint64_t block, uint64_t *origin, uint64_t *extent);

/* A proven lower limit of the bytes that block takes losslessly (bits that are stored raw for certain); it stops
 * at `enough`. */
int szd_lossless_floor(const szd_header *header, const uint8_t *data, uint64_t block, uint64_t enough, uint64_t *bytes);

/* How a block was coded: its mode (FORMAT.md, section 3), the coder of its main symbol stream, its outliers. */
int szd_block_look(const szd_header *header, uint64_t block, const uint8_t *payload, size_t size, uint8_t *scratch,
                   size_t scratch_size, uint32_t *mode, uint32_t *coder, uint64_t *outliers);

/* Choosing: the estimated bits a value of each predictor on a sample of tiles (predictor: enum szd_predictor). */
int szd_estimate(const szd_header *header, const szd_options *options, const uint8_t *data, uint8_t *scratch,
                 size_t scratch_size, double *bits_per_value);
/* About the bits that the header's predictor leaves of an array of one tile (bits[0]); those of tables, of which longer
 * arrays have as many (bits[1]); and what knowing the scales of rows and columns may save of bits[0], a value
 * (bits[2]). Of the latter two one is 0: interpolation tells the first, the others the second. */
int szd_estimate_box(const szd_header *header, const szd_options *options, const uint8_t *data, uint8_t *scratch,
                     size_t scratch_size, double *bits);

/* Whether, in a box of at most `volume` (up to 4096) values in the middle, neighbours along an axis of at least `least`
 * values have a correlation above a half: only then interpolation is worth a trial. */
int szd_neighbours_alike(const szd_header *header, const uint8_t *data, uint64_t volume, uint64_t least,
                         uint32_t *alike);
/* Repetition: a lag in elements after which much of `count` elements comes again, bit for bit, or 0; and the estimated
 * bits a value without (bits[0]) and with (bits[1]) prediction from that far back, for a header that has the predictor.
 */
uint64_t szd_find_lag(uint32_t dtype, const uint8_t *data, uint64_t count);
int szd_estimate_repeat(const szd_header *header, const szd_options *options, const uint8_t *data, uint8_t *scratch,
                        size_t scratch_size, double *bits);

/* Quick looks, at all values as long as they are the same bits (is_constant: whether all of count > 0 are), and at a
 * few. reach: the magnitude that about one in 256 of the finite ones are beyond; 0 without any. reach_within: whether
 * that is at most `limit`, in less time. is_spread: whether the span of all but a few of them is at least `least`, and
 * finite. grid_unit: about the greatest number, at least `least`, of which those are multiples that are below `most`; 0
 * where there is none, or where they are few or none above eps. off_grid: how many values are farther than `room` from
 * the nearest multiple of `unit`, of which `seen` in runs, one run in `share`, are looked at. */
uint32_t szd_is_constant(uint32_t dtype, const uint8_t *data, uint64_t count);
double szd_reach(uint32_t dtype, const uint8_t *data, uint64_t count);
uint32_t szd_reach_within(uint32_t dtype, const uint8_t *data, uint64_t count, double limit);
uint32_t szd_is_spread(uint32_t dtype, const uint8_t *data, uint64_t count, double least);
double szd_grid_unit(uint32_t dtype, const uint8_t *data, uint64_t count, double eps, double least, double most);
uint64_t szd_off_grid(uint32_t dtype, const uint8_t *data, uint64_t count, uint64_t share, double unit, double room,
                      uint64_t *seen);

/* References. The digest of `count` elements from element `first` of a tensor on; that of a whole tensor is the sum,
 * modulo 2^64, over its parts. estimate_reference: the estimated bits a value without (bits[0]) and with (bits[1]) the
 * reference, on a sample; for a header that has the predictor. */
int szd_digest(uint32_t dtype, const szd_options *options, const uint8_t *elements, uint64_t first, uint64_t count,
               uint64_t *digest);
int szd_estimate_reference(const szd_header *header, const szd_options *options, const uint8_t *data, uint8_t *scratch,
                           size_t scratch_size, double *bits);

/* Measuring. With d = x / unit - centre over the finite values, moments gives the sum of d (out[0] + out[1]) and of d^2
 * (out[2] + out[3]). compare gives its sum of squares in units squared, so that tiny and huge errors do not leave the
 * range. */
int szd_stats_of(uint32_t dtype, const szd_options *options, const uint8_t *data, uint64_t count, szd_stats *stats);
int szd_moments(uint32_t dtype, const uint8_t *data, uint64_t count, double unit, double centre, double *out);
int szd_compare(uint32_t dtype, const szd_options *options, const uint8_t *original, const uint8_t *decoded,
                uint64_t count, double eps, double pointwise, double unit, szd_difference *difference);

/* The mixing coder by itself, for tests: n residuals in rows of `width`, the first of them in column `phase`. */
size_t szd_mix_scratch(size_t width);
int szd_mix_encode(const int32_t *residuals, size_t n, size_t width, size_t phase, uint8_t *scratch, uint8_t *out,
                   size_t capacity, size_t *size);
int szd_mix_decode(const uint8_t *data, size_t size, size_t width, size_t phase, uint8_t *scratch, int32_t *out,
                   size_t n);

/* Huffman's code by itself, at most 12 bits a symbol, for comparing methods: n bytes, which the caller knows when it
 * decodes. szd_huffman_encode never needs more than szd_huffman_bound bytes of output; n < 2^32. */
size_t szd_huffman_bound(size_t n);
int szd_huffman_encode(const uint8_t *symbols, size_t n, uint8_t *out, size_t capacity, size_t *size);
int szd_huffman_decode(const uint8_t *data, size_t size, uint8_t *out, size_t n);

#endif

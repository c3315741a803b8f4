/* What a frame's header must fulfil, however it came to be (FORMAT.md, section 2). */
#include "internal.h"

enum { MAX_WIDE_BITS = 20 };
enum { FEW_COEFFICIENTS = 1024, COEFFICIENTS_SHARE = 8 }; /* beyond so many, one in so many values: memory */
enum { SMALL_SCRATCH = 1 << 20, SMALL_FRAME = 100, SCRATCH_PER_BYTE = 1 << 18 };
enum { INTERPOLATION_SCRATCH = 917504, MIXING_SCRATCH = 1600000 };
static const uint64_t MAX_BYTES = (uint64_t)1 << 60;

/* Finite and > 0, by the bits: right whatever the caller's floating-point environment makes of denormals. */
bool positive(double v)
{
    uint64_t u;
    memcpy(&u, &v, 8);
    return u > 0 && u < 0x7ff0000000000000;
}

/* Also refuses extents that do not fit beside others that are zero. */
static int count_elements(szd_header *h, dtype_info info)
{
    if (h->rank > SZD_MAX_RANK)
        return SZD_HEADER_SHAPE;
    uint64_t product = info.element_bytes * info.per_value;
    bool empty = false;
    for (unsigned a = 0; a < h->rank; a++) {
        uint64_t extent = h->shape[a];
        empty = empty || extent == 0;
        if (extent > MAX_BYTES || (extent && product > MAX_BYTES / extent))
            return SZD_HEADER_SHAPE;
        product *= extent ? extent : 1;
    }
    h->element_bytes = info.element_bytes;
    h->elements = empty ? 0 : product / info.element_bytes;
    return SZD_OK;
}

static int check_bound(const szd_header *h)
{
    switch (h->kind) {
    case SZD_LOSSLESS: return SZD_OK;
    case SZD_LINEAR32:
        return positive(h->eps) && positive(h->step) && (double)(float)h->step == h->step && h->wide_bits == 0
                   ? SZD_OK
                   : SZD_HEADER_BOUND;
    case SZD_LINEAR64:
        return positive(h->eps) && positive(h->step) && h->wide_bits <= MAX_WIDE_BITS ? SZD_OK : SZD_HEADER_BOUND;
    default:
        return h->points_per_octave >= 1 && h->points_per_octave <= INT32_MAX && h->has_signs <= 1 &&
                       positive(h->pointwise)
                   ? SZD_OK
                   : SZD_HEADER_BOUND;
    }
}

static int check_axis(const szd_header *h)
{
    if (h->kind != SZD_LINEAR64 || h->axis >= h->rank || h->tile_rank != 1)
        return SZD_HEADER_BOUND;
    uint64_t extent = h->shape[h->axis];
    for (uint64_t i = 0; h->axis_index && i < extent; i++)
        if (h->axis_index[i] >= h->axis_values)
            return SZD_HEADER_BOUND;
    for (uint64_t i = 0; i < (h->axis_index ? h->axis_values : extent); i++) {
        double eps = load_f64(h->axis_eps + 8 * i);
        if (!positive(eps) || !positive(h->step / h->eps * eps))
            return SZD_HEADER_BOUND;
    }
    return SZD_OK;
}

/* Patterns are compared with patterns of the same dtype, lattice integers with those of any float. */
static int check_reference(const szd_header *h)
{
    bool fits = h->kind == SZD_LOSSLESS ? h->reference_dtype == h->dtype : h->reference_dtype <= DT_F64;
    return fits && h->tile_rank == 1 ? SZD_OK : SZD_HEADER_PREDICTOR;
}

static int check_repeat(const szd_header *h)
{
    bool fits = h->lag >= 1 && h->lag <= SZD_MAX_LAG && h->tile_rank == 1;
    return fits && !h->wide_bits && !h->mixed && !h->has_axis ? SZD_OK : SZD_HEADER_PREDICTOR;
}

static int check_predictor(const szd_header *h, dtype_info info)
{
    if (h->predictor > SZD_PREDICT_REPEAT)
        return SZD_HEADER_PREDICTOR;
    if (h->predictor == SZD_PREDICT_REPEAT)
        return check_repeat(h);
    if (h->predictor == SZD_PREDICT_INTERPOLATION &&
        ((h->kind != SZD_LINEAR32 && h->kind != SZD_LINEAR64) || h->wide_bits || h->mixed || h->has_axis ||
         h->snap > SZD_MOST_SNAP))
        return SZD_HEADER_PREDICTOR;
    if (h->predictor == SZD_PREDICT_REFERENCE)
        return check_reference(h);
    if (h->kind == SZD_LOSSLESS && h->predictor &&
        (h->predictor != SZD_PREDICT_LORENZO || info.is_float || h->tile_rank != 1))
        return SZD_HEADER_PREDICTOR;
    if (h->predictor == SZD_PREDICT_REGRESSION && (h->edge < 2 || h->edge > 64 || h->fraction_bits > 12))
        return SZD_HEADER_PREDICTOR;
    return SZD_OK;
}

static void default_tiles(szd_header *h)
{
    h->tile_rank = 1;
    h->dims[0] = h->elements;
    uint64_t most = SZD_DEFAULT_TILE - SZD_DEFAULT_TILE % row_length(h);
    h->tile[0] = h->elements < most ? (h->elements ? h->elements : 1) : most;
}

bool tiles_are_default(const szd_header *h)
{
    szd_header d = *h;
    default_tiles(&d);
    return h->tile_rank == 1 && h->tile[0] == d.tile[0];
}

static uint64_t largest_allowed_tile(const szd_header *h)
{
    switch (h->predictor) {
    case SZD_PREDICT_INTERPOLATION: return SZD_MAX_INTERP_TILE;
    case SZD_PREDICT_REPEAT: return SZD_MAX_REPEAT_TILE;
    default: return predicts_tiles(h) ? SZD_MAX_TILE : ((uint64_t)1 << 31) / h->element_bytes;
    }
}

static int check_tiles(szd_header *h)
{
    if (h->tile_rank < 1 || h->tile_rank > SZD_MAX_TILE_RANK)
        return SZD_HEADER_TILES;
    uint64_t limit = largest_allowed_tile(h);
    uint64_t dims = 1, product = 1, volume = 1, blocks = 1;
    for (unsigned a = 0; a < h->tile_rank; a++) {
        uint64_t extent = h->dims[a], edge = h->tile[a], factor = extent ? extent : 1;
        if (edge < 1 || edge > factor || edge > limit / volume || product > MAX_BYTES / factor)
            return SZD_HEADER_TILES;
        product *= factor;
        dims *= extent;
        volume *= edge;
        blocks *= extent / edge + (extent % edge != 0);
    }
    h->blocks = blocks;
    return dims == h->elements ? SZD_OK : SZD_HEADER_TILES;
}

/* A decoder holds a whole tile's coefficients: no more than the tile's size justifies. */
static int check_coefficients(const szd_header *h)
{
    tile whole = {h->tile_rank, {0}, {1, 1, 1, 1}, largest_tile(h)};
    for (unsigned a = 0; a < h->tile_rank; a++)
        whole.extent[a] = h->tile[a];
    size_t count = regression_coefficients(h, &whole);
    return count <= FEW_COEFFICIENTS || count <= whole.count / COEFFICIENTS_SHARE ? SZD_OK : SZD_HEADER_PREDICTOR;
}

/* What a block takes to decode beside the output, where that may be more than 1 MB (FORMAT.md, section 2.3). */
static uint64_t large_scratch(const szd_header *h)
{
    uint64_t n = largest_tile(h), last = h->tile[h->tile_rank - 1], rows = n / last;
    if (h->predictor == SZD_PREDICT_INTERPOLATION)
        return INTERPOLATION_SCRATCH +
               (h->kind == SZD_LINEAR64 ? 26 * n + 88 * rows + 24 * last : 16 * n + 44 * rows + 12 * last);
    return h->mixed ? MIXING_SCRATCH + 48 * (h->tile_rank > 1 ? last : row_length(h)) : 0;
}

uint32_t szd_frame_justified(const szd_header *h, uint64_t frame_bytes)
{
    uint64_t beyond = frame_bytes > SMALL_FRAME ? frame_bytes - SMALL_FRAME : 0;
    uint64_t large = h->blocks ? large_scratch(h) : 0;
    return large <= SMALL_SCRATCH || (large - SMALL_SCRATCH - 1) / SCRATCH_PER_BYTE < beyond;
}

/* All that does not depend on how the header came to be. */
int check_header(szd_header *h)
{
    dtype_info info = dtype_of(h->dtype);
    if (!info.element_bytes)
        return SZD_NEW_DTYPE;
    if (h->kind > SZD_GEOMETRIC)
        return SZD_NEW_KIND;
    if ((h->kind != SZD_LOSSLESS && h->dtype > DT_F64) || (h->kind == SZD_LINEAR32 && h->dtype == DT_F64))
        return SZD_HEADER_BOUND;
    int status = count_elements(h, info);
    if (status == SZD_OK && h->tile_rank == 0)
        default_tiles(h);
    if (status == SZD_OK)
        status = check_bound(h);
    if (status == SZD_OK)
        status = check_predictor(h, info);
    if (status == SZD_OK)
        status = check_tiles(h);
    if (status == SZD_OK && h->predictor == SZD_PREDICT_REGRESSION)
        status = check_coefficients(h);
    return status == SZD_OK && h->has_axis ? check_axis(h) : status;
}

/* The step that a header without one means. */
double default_step(const szd_header *h)
{
    return 2 * (h->kind == SZD_LINEAR32 ? (double)float_below(h->eps) : h->eps);
}

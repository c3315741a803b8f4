/* The interpolation predictor: what its files share (FORMAT.md, section 11).
 *
 * interp.c lays a tile out in stages and says what is known around each value; interp_rows.c has the loops over rows;
 * interp_fit.c chooses the weights; interp_encode.c and interp_decode.c code the residuals. */
#ifndef SZD_INTERP_H
#define SZD_INTERP_H
#include "internal.h"

enum {
    INTERP_AXES = 4,
    INTERP_LEVELS = 32,
    INTERP_LAST = INTERP_AXES - 1, /* the axis along which values lie side by side */
    INTERP_STAGES = 20 * INTERP_AXES,
    INTERP_TAPS = 24,
    INTERP_UNIT = 256,     /* weights are multiples of 1/256 */
    INTERP_MOST = 1 << 14, /* of a weight, in those */
    INTERP_CLASSES = 64,   /* of activity, two an octave */
    INTERP_SKIPPED = 64,   /* the class of values that the zero mask gives */
    INTERP_NO_GROUP = 255, /* of those */
    INTERP_GAP = 64,       /* bytes between the groups' symbols */
    INTERP_GROUPS = 16,    /* of neighbouring classes, that share a table */
    INTERP_TABLES = 250,
    INTERP_FACTOR = 64,    /* a level's step is a multiple of 1/64 of the frame's */
    INTERP_SEGMENT = 1024, /* values that pass through a row's loops at a time */
    INTERP_CENTRE = 128,   /* the symbol of residual 0 */
    INTERP_PLAIN_ORDER = 0 | 1 << 2 | 2 << 4 | 3 << 6,
};

/* One axis of one level. Ranks below four are seen as four with leading extents of one. The values to come lie at odd
 * multiples of the axis's spacing; the known ones beside them at the even ones. */
typedef struct interp_stage {
    unsigned axis, level;
    size_t known[INTERP_AXES], extent[INTERP_AXES]; /* of the known values' array and of the coming ones' */
    size_t spacing[INTERP_AXES];                    /* of the coming ones in the tile, in elements */
    size_t first, rows, width, count;               /* element of the first one; the coming ones in rows */
} interp_stage;

/* A term of the prediction: weight x ((sum of its values) / their number - mean), or weight x (at[0] - at[1]). */
enum interp_kind { TAP_PAIR, TAP_QUAD, TAP_CAUSAL };
typedef struct interp_tap {
    enum interp_kind kind;
    unsigned number; /* among the stage's taps */
    int32_t weight;  /* taps with weight 0 are left out */
    float weight_single;
    double weight_double;
    const uint8_t *at[4];
} interp_tap;

/* The same for all rows: axes and steps along them. */
typedef struct interp_tap_place {
    enum interp_kind kind;
    uint8_t a, b;
    int8_t da, db;
} interp_tap_place;
typedef struct interp_taps_list {
    unsigned count;
    interp_tap_place taps[INTERP_TAPS];
} interp_taps_list;

/* What is known around a row of coming values, in the work type. */
typedef struct interp_row {
    const uint8_t *left, *right, *mean;
    unsigned count, pairs; /* the first taps are pairs */
    interp_tap taps[INTERP_TAPS];
} interp_row;

/* The loops, for float or double. Work arrays hold that type. */
typedef struct interp_kernels {
    unsigned bytes;
    void (*load)(uint32_t dtype, const uint8_t *values, size_t n, uint8_t *out);
    void (*store)(uint32_t dtype, const uint8_t *v, size_t n, uint8_t *values);
    size_t (*survey)(const uint8_t *x, size_t n, size_t *zeros); /* how many are not finite, and zero */
    void (*find_zeros)(const uint8_t *x, size_t n, uint8_t *zeros);
    void (*pick)(const uint8_t *from, size_t spacing, size_t n, uint8_t *out);
    void (*mean)(const uint8_t *a, const uint8_t *b, size_t n, uint8_t *out);
    void (*extend)(const uint8_t *a, const uint8_t *b, size_t n, uint8_t *out);
    void (*pad)(uint8_t *row, size_t n); /* one value before and two behind, on straight lines */
    void (*weave)(const uint8_t *even, const uint8_t *odd, size_t n, uint8_t *out);
    void (*classify)(const interp_row *row, size_t n, double inverse, uint8_t *classes);
    void (*predict)(const interp_row *row, size_t from, size_t n, uint8_t *p);
    void (*reconstruct)(const uint8_t *p, const int32_t *q, size_t n, double step, uint8_t *v);
    /* Whether any v is not strictly within eps of x, or a zero is not a zero. */
    uint32_t (*quantize)(uint32_t dtype, const uint8_t *x, const uint8_t *p, size_t n, const double steps[3],
                         int32_t *q, uint8_t *v);
    double (*at)(const uint8_t *v, size_t i);
    void (*put)(uint8_t *v, size_t i, double x);
    void (*terms)(const interp_row *row, unsigned tap, size_t from, size_t n, double *out);
} interp_kernels;
const interp_kernels *interp_kernels_for(bool is_double, uint32_t isa);

/* How a group's symbols are coded; from GROUP_TABLES on by the table of that number. */
enum interp_group { GROUP_ZERO, GROUP_NEW_TABLE, GROUP_CONSTANT, GROUP_TABLES };

/* A walk from the coarsest grid, one value, to the whole tile. */
typedef struct interp_walk {
    const interp_kernels *k;
    size_t extent[INTERP_AXES];
    interp_stage s;
    interp_taps_list taps;
    size_t between[INTERP_LAST]; /* rows from one place to the next along an axis */
    uint8_t *known, *next;       /* compact arrays whose rows have room for 1 value before and 2 behind */
    uint8_t *mean;               /* of both neighbours of each coming value; room for 1 before and behind each row */
    uint8_t *coming;
    uint8_t *spare[3]; /* a row each */
} interp_walk;

typedef struct interp_plan {
    unsigned count, levels;
    uint8_t factor[INTERP_LEVELS]; /* of each level's step, in 1/64 */
    interp_stage stages[INTERP_STAGES];
} interp_plan;

bool interp_order_valid(unsigned order);
void interp_plan_make(const tile *t, unsigned order, interp_plan *plan);
/* The first value has the coarsest level's. Rounded to the work type. */
double interp_step(const interp_plan *plan, const interp_walk *w, unsigned level, double step);
size_t interp_walk_scratch(const uint64_t *extent, unsigned rank, unsigned bytes);
void interp_walk_begin(interp_walk *w, const tile *t, bool is_double, uint32_t isa, uint8_t **scratch);
/* The first value is in its place. */
uint8_t *interp_anchor(const interp_walk *w);
void interp_begin_values(interp_walk *w);
void interp_begin_stage(interp_walk *w, const interp_stage *s);
unsigned interp_taps(const interp_stage *s);
/* Elements without a known one behind them along the stage's axis have weights of their own, and the last class. */
bool interp_has_border(const interp_stage *s);
bool interp_is_border(const interp_stage *s, size_t row, size_t at);
/* From `at` on, how many elements of a row have the same weights; at most a segment. */
/* Row number i of those that are border as a whole. */
size_t interp_border_row(const interp_stage *s, size_t i);
size_t interp_part(const interp_stage *s, size_t at);
void interp_row_at(interp_walk *w, size_t row, interp_row *out);
/* The taps whose weights are not 0, with these. */
void interp_weigh(const interp_row *row, const int16_t *weights, interp_row *out);
void interp_default_weights(const interp_stage *s, int16_t *weights);
uint8_t *interp_coming(const interp_walk *w, size_t row);
size_t interp_first_of_row(const interp_stage *s, size_t row);
void interp_classes(interp_walk *w, double step, uint8_t *classes);
void interp_end_stage(interp_walk *w);
/* A row of the known values, an array of those extents after interp_end_stage. */
const uint8_t *interp_values(const interp_walk *w, const size_t extent[INTERP_AXES], size_t row);

/* interp_groups.c: symbols sorted by group; to[] and from[] move on. Vectors write and read up to INTERP_GAP bytes
 * beyond a group's last symbol. */
void interp_groups_map(const uint8_t *classes, size_t n, const uint8_t table[INTERP_CLASSES], uint32_t isa,
                       uint8_t *groups);
void interp_groups_split(const uint8_t *groups, const uint8_t *symbols, size_t n, unsigned count, uint32_t isa,
                         uint8_t *to[INTERP_GROUPS]);
void interp_groups_merge(const uint8_t *groups, size_t n, unsigned count, uint32_t isa,
                         const uint8_t *from[INTERP_GROUPS], uint8_t *symbols);

/* interp_fit.c: x: the original values of the whole tile in the work type. */
/* False, and the weights as they were, where there is too little to fit or to win. */
bool interp_fit(interp_walk *w, const uint8_t *x, double step, bool border, int16_t *weights, uint8_t *scratch);
size_t interp_fit_scratch(void);
#endif

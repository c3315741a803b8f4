/* The interpolation predictor: what its files share (FORMAT.md, section 11).
 *
 * interp_plan.c lays a tile out in stages; interp.c walks through them and says what is known around each row;
 * interp_rows.c has the loops over rows; interp_order.c sorts a tile by stages; interp_fit.c chooses the weights;
 * interp_encode.c makes residuals, interp_symbols.c codes them with the tables of interp_tables.c, interp_low.c parts
 * them from raw low bits; interp_read.c and interp_decode.c go all the way back. */
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
    INTERP_TOLD = 4,       /* edges that a row's taps are kept for: along one axis there are no more */
    INTERP_SLACK = 16,     /* elements that loops may touch beyond a row */
    INTERP_GAP = 64,       /* bytes between the groups' symbols */
    INTERP_GROUPS = 16,    /* of neighbouring classes, that share a table */
    INTERP_TABLES = 250,
    INTERP_FACTOR = 64,                            /* a level's step is a multiple of 1/64 of the frame's */
    INTERP_SEGMENT = 1024,                         /* values that pass through a row's loops at a time */
    INTERP_CENTRE = 128,                           /* the symbol of residual 0 */
    INTERP_FORWARD = 0 | 1 << 2 | 2 << 4 | 3 << 6, /* orders of the axes */
    INTERP_BACKWARD = 3 | 2 << 2 | 1 << 4 | 0 << 6,
};

/* One axis of one level. Ranks below four are seen as four with leading extents of one. The values to come lie at odd
 * multiples of the axis's spacing; the known ones beside them at the even ones. */
typedef struct interp_stage {
    unsigned axis, level;
    size_t known[INTERP_AXES], extent[INTERP_AXES]; /* of the known values' array and of the coming ones' */
    size_t spacing[INTERP_AXES];                    /* of the coming ones in the tile, in elements */
    size_t first, rows, width, count;               /* element of the first one; the coming ones in rows */
    size_t before;                                  /* how many come in the stages before */
} interp_stage;

typedef struct interp_plan {
    unsigned count, levels;
    uint8_t factor[INTERP_LEVELS]; /* of each level's step, in 1/64 */
    size_t extent[INTERP_AXES];    /* of the tile */
    interp_stage stages[INTERP_STAGES];
} interp_plan;

/* A term of the prediction: weight x ((sum of its values) / their number - mean), or, causal, weight x (a value of the
 * stage - its mean). */
enum interp_kind { TAP_PAIR, TAP_QUAD, TAP_CAUSAL };

/* Axes a and b and steps along them; the same for all rows of a stage. */
typedef struct interp_place {
    uint8_t kind, a, b;
    int8_t da, db;
} interp_place;
typedef struct interp_places {
    unsigned count;
    interp_place place[INTERP_TAPS];
} interp_places;

/* at: bytes from the row's mean; of a causal one, at[0] from the row's own coming values. */
typedef struct interp_tap {
    int32_t at[4];
    double weight_double;
    float weight_single;
    uint8_t kind, number; /* among the stage's taps */
} interp_tap;

/* The taps of rows at the same edges: pairs, then quads, then causal ones. */
typedef struct interp_taps_at {
    uint32_t edges;
    unsigned count, pairs, quads;
    interp_tap taps[INTERP_TAPS];
} interp_taps_at;

/* A row of coming values: what is known around it, in the work type, and the chosen ones of its stage's taps. The first
 * tap, which sees the next but one on either side, stands apart. Where the others are depends on the edges of the array
 * that the row lies at; the last ones that were told are kept. */
typedef struct interp_row {
    size_t row, place[INTERP_LAST];
    const uint8_t *side[4]; /* next but one before, before, behind, next but one behind */
    const uint8_t *mean, *coming;
    bool inside; /* all of `side` are known rows */
    bool curve;  /* the first tap is chosen */
    float curve_single;
    double curve_double;
    unsigned chosen_count;
    uint8_t chosen[INTERP_TAPS]; /* the others' numbers */
    int16_t weights[INTERP_TAPS];
    const interp_taps_at *at_edges;
    interp_taps_at told[INTERP_TOLD];
} interp_row;

/* step, its inverse, the largest error that the quick test lets pass. zeros: zeros are given, of class
 * INTERP_SKIPPED. */
typedef struct interp_quantizer {
    uint32_t dtype;
    double step, inverse, eps;
    bool zeros;
} interp_quantizer;

/* The loops, for float or double. Work arrays hold that type. They may read and write up to INTERP_SLACK elements
 * beyond a row: what is there is made later. */
typedef struct interp_kernels {
    unsigned bytes;
    void (*load)(uint32_t dtype, const uint8_t *values, size_t n, uint8_t *out);
    void (*store)(uint32_t dtype, const uint8_t *v, size_t n, uint8_t *values);
    size_t (*survey)(const uint8_t *x, size_t n, size_t *zeros); /* how many are not finite, and zero */
    void (*find_zeros)(const uint8_t *x, size_t n, uint8_t *zeros);
    void (*mean)(const uint8_t *a, const uint8_t *b, size_t n, uint8_t *out);
    void (*extend)(const uint8_t *a, const uint8_t *b, size_t n, uint8_t *out);
    void (*pad)(uint8_t *row, size_t n); /* one value before and two behind, on straight lines */
    void (*weave)(const uint8_t *even, const uint8_t *odd, size_t n, uint8_t *out);
    /* n / 2 odd ones, the others even; `even` may lie before `from` in the same array, or at it. */
    void (*unweave)(const uint8_t *from, size_t n, uint8_t *even, uint8_t *odd);
    void (*classify)(const interp_row *row, size_t n, double inverse, uint8_t *classes);
    void (*predict)(const interp_row *row, size_t from, size_t n, uint8_t *p);
    void (*snap)(uint8_t *p, size_t n, double unit);
    void (*reconstruct)(const uint8_t *p, const int32_t *q, size_t n, double step, uint8_t *v);
    /* Whether any v is not strictly within eps of x, or a zero is not a zero. */
    uint32_t (*quantize)(const interp_quantizer *z, const uint8_t *x, const uint8_t *p, size_t n, int32_t *q,
                         uint8_t *v, uint8_t *classes);
    void (*put_zeros)(const uint8_t *zeros, size_t n, uint8_t *v);
    double (*at)(const uint8_t *v, size_t i);
    void (*put)(uint8_t *v, size_t i, double x);
    /* The tap's term, or with NULL the first tap's; x less the mean; times `inverse`. */
    void (*terms)(const interp_row *row, const interp_tap *tap, size_t from, size_t n, double inverse, double *out);
    void (*target)(const interp_row *row, const uint8_t *x, size_t from, size_t n, double inverse, double *out);
    /* Of `a` with each of `count` others; n is a multiple of 8. */
    void (*dots)(const double *a, const double *const *b, unsigned count, size_t n, double *out);
} interp_kernels;
const interp_kernels *interp_kernels_for(bool is_double, uint32_t isa);

/* How a group's symbols are coded; from GROUP_TABLES on by the table of that number. */
enum interp_group { GROUP_ZERO, GROUP_NEW_TABLE, GROUP_CONSTANT, GROUP_TABLES };

/* A walk from the coarsest grid, one value, to the whole tile. */
typedef struct interp_walk {
    const interp_kernels *k;
    interp_stage s;
    interp_places places;
    size_t between[INTERP_LAST]; /* rows from one place to the next along an axis */
    uint8_t *known, *next;       /* compact arrays whose rows have room for 1 value before and 2 behind */
    uint8_t *mean;               /* of both neighbours of each coming value; room for 1 before and behind each row */
    uint8_t *coming;
    uint8_t *spare[3]; /* a row each */
} interp_walk;

/* interp_plan.c */
bool interp_order_valid(unsigned order);
void interp_plan_make(const tile *t, unsigned order, interp_plan *plan);
/* The first value has the coarsest level's. Rounded to the work type. */
double interp_step(const interp_plan *plan, unsigned level, double step, unsigned bytes);
/* What predictions are multiples of; 0: any value. Rounded to the work type. */
double interp_unit(const szd_header *h, unsigned bytes);
void interp_places_of(const interp_stage *s, interp_places *l);
unsigned interp_taps(const interp_stage *s);
void interp_default_weights(const interp_stage *s, int16_t *weights);
/* Elements without a known one behind them along the stage's axis have weights of their own, and the last class. */
bool interp_has_border(const interp_stage *s);
/* Of border that is whole rows. */
bool interp_is_border(const interp_stage *s, const interp_row *row);
/* Row number i of those that are border as a whole. */
size_t interp_border_row(const interp_stage *s, size_t i);
/* How many rows lie between neighbours along an axis of an array with those extents. */
size_t interp_rows_between(const size_t extent[INTERP_AXES], unsigned axis);
size_t interp_first_of_row(const interp_stage *s, const interp_row *row);

/* interp_order.c: a tile's elements, `bytes` each, to stage order: the stages' elements go to `coming`, those of stage
 * s from s.before on. `elements` has room for all, which may be there, and is used up. */
typedef void (*interp_unweave)(const uint8_t *from, size_t n, uint8_t *even, uint8_t *odd);
void interp_sort(const interp_plan *plan, interp_unweave unweave, unsigned bytes, const uint8_t *from,
                 uint8_t *elements, uint8_t *coming);
void interp_unweave_bytes(const uint8_t *from, size_t n, uint8_t *even, uint8_t *odd);
/* Flags of zeros in the tile's order to bits, each told by whether it differs from the one a row before, and back. */
void interp_zeros_pack(const tile *t, const uint8_t *zeros, uint8_t *bits);
void interp_zeros_unpack(const tile *t, const uint8_t *bits, uint8_t *zeros);

/* interp.c */
size_t interp_walk_scratch(const uint64_t *extent, unsigned rank, unsigned bytes);
void interp_walk_begin(interp_walk *w, const tile *t, bool is_double, uint32_t isa, uint8_t **scratch);
/* The first value is in its place. */
uint8_t *interp_anchor(const interp_walk *w);
void interp_begin_values(interp_walk *w);
void interp_begin_stage(interp_walk *w, const interp_stage *s);
/* Chooses the taps with weights that are not 0, or without weights all of them, pairs only or none. Then row after
 * row. */
enum interp_choice { CHOOSE_NONE, CHOOSE_PAIRS, CHOOSE_ALL };
void interp_choose(const interp_walk *w, enum interp_choice choice, const int16_t *weights, interp_row *row);
void interp_row_at(interp_walk *w, size_t number, interp_row *row);
uint8_t *interp_coming(const interp_walk *w, size_t row);
/* empty: of each row whether all its values are given zeros; NULL if none is. */
void interp_classes(interp_walk *w, double step, const uint8_t *empty, uint8_t *classes);
void interp_end_stage(interp_walk *w);
/* A row of the grid that a stage completes, without interp_end_stage: as it lies there, or where `odd` is not NULL its
 * values by turns from both. */
typedef struct interp_result_row {
    const uint8_t *even, *odd;
} interp_result_row;
interp_result_row interp_result(const interp_walk *w, size_t row);

/* A stage's rows by the weights of both its parts. */
typedef struct interp_pass {
    interp_walk *walk;
    interp_row rows[2]; /* the border's last */
    bool apart;         /* border has weights of its own */
} interp_pass;
void interp_pass_begin(interp_pass *pass, interp_walk *w, int16_t (*weights)[INTERP_TAPS], bool apart);
/* At most a segment of a row, which interp_pass_row has been to. */
const interp_row *interp_pass_row(interp_pass *pass, size_t row);
void interp_pass_predict(interp_pass *pass, const interp_row *row, size_t from, size_t n, uint8_t *p);

/* interp_groups.c: symbols sorted by group; to[] and from[] move on. Vectors write and read up to INTERP_GAP bytes
 * beyond a group's last symbol. */
void interp_groups_map(const uint8_t *classes, size_t n, const uint8_t table[INTERP_CLASSES], uint32_t isa,
                       uint8_t *groups);
/* Values that are given zeros become INTERP_SKIPPED. */
void interp_groups_skip(const uint8_t *zeros, size_t n, uint32_t isa, uint8_t *classes);
void interp_groups_count(const uint8_t *groups, size_t n, unsigned count, uint32_t isa, uint32_t counts[INTERP_GROUPS]);
void interp_groups_split(const uint8_t *groups, const uint8_t *symbols, size_t n, unsigned count, uint32_t isa,
                         uint8_t *to[INTERP_GROUPS]);
void interp_groups_merge(const uint8_t *groups, size_t n, unsigned count, uint32_t isa,
                         const uint8_t *from[INTERP_GROUPS], uint8_t *symbols);

/* interp_fit.c: x: the stage's original values in the work type. zeros: zeros are given. */
/* False, and the weights as they were, where there is too little to fit or to win. */
bool interp_fit(interp_walk *w, const uint8_t *x, double step, bool border, bool zeros, int16_t *weights,
                uint8_t *scratch);
size_t interp_fit_scratch(void);
#endif

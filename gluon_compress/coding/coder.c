/* The model of model.py and the arithmetic coder of range_coder.py, which explain what is done here and why.
 *
 * The same integers, so the same bytes. Two functions are called from native.py: encode_values and decode_values.
 * Nothing is read or written outside of the arrays that they are given: contexts are clamped where they are made,
 * zeros are read after the end of the content, and decoding stops soon after it.
 * Right shifts of negative numbers round down, as they do with every compiler for MXNet's platforms, and in Python.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef SOURCE_DIGEST
#define SOURCE_DIGEST "SHA-256 of this file, by which native.py knows that this is what was built"
#endif

const char source_digest[] = SOURCE_DIGEST;

#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum { INPUTS = 6, SIGN_INPUTS = 4, CELLS = 512, QUESTIONS = 64, CHOICES = QUESTIONS + 32, SHARES = 8 };
enum { APART = 80 }; /* keeps inputs from the same lines of the cache, which distances of a power of two share */
enum { UPWARD = 16, DOWNWARD = 32, GROUP = 46, SIGN = 47, SECOND_BIT = 48, EXPECTED_SIZES = 8 };
enum { LARGEST = 32767, MOST_COUNTED = 250, WHOLE_MAP = 25, GROUP_LENGTH = 8 };
enum { HEAVIEST = 1 << 18, MIXED = 1536, FLUSHED = 8 };
enum { ENCODING, DECODING, COSTING }; /* modes; COSTING only adds up what bits would take, and learns nothing */
enum { NO_ROOM = -1, DAMAGED = -2, NO_MEMORY = -3 };

typedef struct {
    const uint16_t *squash;
    const int16_t *stretch;
    const uint16_t *reciprocal;
} tables_t;

typedef struct {
    int64_t filters, channels, positions, width;
} geometry_t;

typedef struct {
    int32_t mean, rate, grouped, share[SHARES];
} settings_t;

typedef struct {
    uint64_t low, width, word;
    uint8_t *content;          /* written by an encoder only */
    int64_t position, length;  /* length: bytes of the content, or how many it has room for */
    int no_room;
    const float *costs;        /* bits of an answer by its probability, of 4096 */
    float bits;
} range_coder_t;

typedef struct {
    range_coder_t coder;
    tables_t tables;
    int32_t rate;
    uint32_t cells[INPUTS][CELLS * QUESTIONS + APART];
    uint32_t plain[QUESTIONS];
    int32_t weights[CHOICES][INPUTS];
    int32_t coded[CHOICES];
} mixer_t;

typedef struct {
    int32_t mean, row, local, map, row_count, row_sign, groups;
    int32_t *channel, *place, *place_sign;
} means_t;

typedef struct {
    int32_t left, up, diagonal, behind, before;
} neighbours_t;

/* ---- small functions ---- */

ALWAYS_INLINE int smaller(int a, int b) { return a < b ? a : b; }
ALWAYS_INLINE int clamp(int number, int least, int most) { return number < least ? least : smaller(number, most); }

/* ---- the arithmetic coder ---- */

static void carry(range_coder_t *coder) {
    int64_t place = coder->position;
    while (place > 0 && ++coder->content[--place] == 0) {}
}

static void write_word(range_coder_t *coder, uint64_t word, int count) {
    if (coder->position + count > coder->length) {
        coder->no_room = 1;
        return;
    }
    for (int i = 0; i < count; i++) coder->content[coder->position++] = (uint8_t)(word >> (56 - 8 * i));
}

static uint32_t read_word(range_coder_t *coder) {
    uint32_t word = 0;
    for (int i = 0; i < 4; i++, coder->position++)
        word = word << 8 | (coder->position < coder->length ? coder->content[coder->position] : 0);
    return word;
}

ALWAYS_INLINE int code_bit(range_coder_t *coder, int mode, int bit, uint32_t probability) {
    if (mode == COSTING) {
        coder->bits += coder->costs[(bit ? probability : 65536 - probability) >> 4];
        return bit;
    }
    uint64_t bound = (coder->width >> 16) * probability;
    if (mode == DECODING) bit = coder->word < bound;
    if (bit) {
        coder->width = bound;
    } else {
        coder->width -= bound;
        if (mode == DECODING) {
            coder->word -= bound;
        } else {
            coder->low += bound;
            if (coder->low < bound) carry(coder);
        }
    }
    if (coder->width < (uint64_t)1 << 32) {
        if (mode == DECODING) {
            coder->word = coder->word << 32 | read_word(coder);
        } else {
            write_word(coder, coder->low, 4);
            coder->low <<= 32;
        }
        coder->width <<= 32;
    }
    return bit;
}

static void finish(range_coder_t *coder) {
    uint64_t top = coder->low + coder->width - 1;
    int wraps = top < coder->low;
    for (int count = 0; count <= FLUSHED; count++) {
        uint64_t rest = count == FLUSHED ? 0 : UINT64_MAX >> (8 * count); /* below a multiple of 2^(64 - 8 count) */
        uint64_t number = (coder->low + rest) & ~rest;
        int wrapped = number < coder->low;
        if (wrapped ? wraps : wraps || number <= top) {
            if (wrapped) carry(coder);
            write_word(coder, number, count);
            return;
        }
    }
}

/* ---- the mixer ---- */

ALWAYS_INLINE void learn(uint32_t *cell, int bit, const uint16_t *reciprocal) {
    uint32_t count = *cell & 1023;
    int64_t probability = *cell >> 10, target = bit ? (1 << 22) - 1 : 0;
    probability += ((target - probability) * reciprocal[count] + (1 << 15)) >> 16;
    *cell = (uint32_t)probability << 10 | (count + 1 < MOST_COUNTED ? count + 1 : MOST_COUNTED);
}

/* With a constant bit, so that the next prediction need not wait until the bit is known. */
ALWAYS_INLINE void adapt(mixer_t *mixer, int bit, int32_t probability, uint32_t **cells, const int32_t *seen,
                         int inputs, int choice) {
    int32_t *weights = mixer->weights[choice];
    int32_t step = (((bit << 16) - probability) * (mixer->rate + ((4096 - mixer->coded[choice]) >> 8))) >> 4;
    mixer->coded[choice] += mixer->coded[choice] < 4096;
    for (int i = 0; i < inputs; i++) {
        weights[i] = clamp(weights[i] + ((seen[i] * step + (1 << 13)) >> 14), -HEAVIEST, HEAVIEST);
        learn(cells[i], bit, mixer->tables.reciprocal);
    }
}

ALWAYS_INLINE int code_mixed(mixer_t *mixer, int mode, int bit, int question, const int *contexts, int inputs,
                             int choice) {
    int32_t *weights = mixer->weights[choice], seen[INPUTS];
    uint32_t *cells[INPUTS];
    int32_t total = 1 << 15;
    for (int i = 0; i < inputs; i++) {
        cells[i] = &mixer->cells[i][question * CELLS + contexts[i]];
        seen[i] = mixer->tables.stretch[*cells[i] >> 20];
        total += weights[i] * seen[i];
    }
    total >>= 16;
    total = total < -MIXED ? -MIXED : total > MIXED - 1 ? MIXED - 1 : total;
    int32_t probability = mixer->tables.squash[total + MIXED];
    bit = code_bit(&mixer->coder, mode, bit, (uint32_t)probability);
    if (mode == COSTING) return bit;
    if (bit) adapt(mixer, 1, probability, cells, seen, inputs, choice);
    else adapt(mixer, 0, probability, cells, seen, inputs, choice);
    return bit;
}

ALWAYS_INLINE int code_plainly(mixer_t *mixer, int mode, int bit, int context) {
    uint32_t probability = mixer->plain[context] >> 16;
    probability = probability < 32 ? 32 : probability > 65504 ? 65504 : probability;
    bit = code_bit(&mixer->coder, mode, bit, probability);
    if (mode != COSTING) learn(&mixer->plain[context], bit, mixer->tables.reciprocal);
    return bit;
}

static mixer_t *new_mixer(const tables_t *tables, int32_t rate) {
    mixer_t *mixer = calloc(1, sizeof *mixer);
    if (!mixer) return NULL;
    mixer->tables = *tables;
    mixer->rate = rate;
    mixer->coder.width = UINT64_MAX;
    for (int i = 0; i < INPUTS; i++) {
        for (int j = 0; j < CELLS * QUESTIONS; j++) mixer->cells[i][j] = (uint32_t)1 << 31;
        for (int j = 0; j < CHOICES; j++) mixer->weights[j][i] = j == SIGN ? 16384 : 13107;
    }
    for (int i = 0; i < QUESTIONS; i++) mixer->plain[i] = (uint32_t)1 << 31;
    return mixer;
}

/* ---- contexts ---- */

ALWAYS_INLINE int bit_length(uint32_t number) { return number ? 32 - __builtin_clz(number) : 0; }
ALWAYS_INLINE int sign_of(int number) { return (number > 0) - (number < 0) + 1; }

ALWAYS_INLINE int level(int number, int bits) {
    if (number < 1 << bits) return number;
    int length = bit_length((uint32_t)number);
    return ((length - bits) << bits) + (number >> (length - 1 - bits) & ((1 << bits) - 1));
}

ALWAYS_INLINE int magnitude_level(int mean) { return clamp(level(mean, 1) - 7, 0, 19); }

ALWAYS_INLINE neighbours_t neighbours_of(const int32_t *value, int64_t filter, int64_t size, int64_t place,
                                         int64_t column, int64_t position, const geometry_t *geometry) {
    int up = position >= geometry->width;
    neighbours_t found = {
        clamp(column ? value[-1] : 0, -LARGEST, LARGEST),
        clamp(up ? value[-geometry->width] : 0, -LARGEST, LARGEST),
        clamp(up && column ? value[-geometry->width - 1] : 0, -LARGEST, LARGEST),
        clamp(place >= geometry->positions ? value[-geometry->positions] : 0, -LARGEST, LARGEST),
        clamp(filter ? value[-size] : 0, -LARGEST, LARGEST),
    };
    return found;
}

ALWAYS_INLINE int expected_magnitude(const means_t *means, const int32_t *share, int64_t channel, int64_t place,
                                     const neighbours_t *near) {
    int64_t sum = (int64_t)share[0] * means->row + (int64_t)share[1] * means->channel[channel]
                + (int64_t)share[2] * means->place[place] + (int64_t)share[3] * means->local
                + (int64_t)share[4] * means->map + 256 * (int64_t)share[5] * abs(near->left)
                + 256 * (int64_t)share[6] * abs(near->up) + (int64_t)share[7] * means->mean;
    return sum < 0 ? 0 : (int)(sum >> 10);
}

ALWAYS_INLINE void magnitude_contexts(int *contexts, const means_t *means, int64_t place, int expected,
                                      const neighbours_t *near) {
    int left = abs(near->left), up = abs(near->up), here = magnitude_level(means->place[place]);
    contexts[0] = 0;
    contexts[1] = clamp(level(expected, 2) - 6, 0, 63);
    contexts[2] = ((smaller(left, 2) * 3 + smaller(up, 2)) * 3 + smaller(abs(near->behind), 2)) * 3
                + smaller(abs(near->before), 2);
    contexts[3] = magnitude_level(means->local) * 20 + here;
    contexts[4] = here * 20 + magnitude_level(means->row);
    contexts[5] = magnitude_level(means->map) * 20 + magnitude_level((left + up) * 128);
}

ALWAYS_INLINE void sign_contexts(int *contexts, const means_t *means, int64_t place, uint32_t magnitude,
                                 const neighbours_t *near) {
    int slope = 2 * near->left + 2 * near->up - near->diagonal + near->behind;
    int steps = smaller(level(abs(slope), 1), 12);
    contexts[0] = (slope < 0 ? 12 - steps : 12 + steps) * 4 + (magnitude < 3 ? (int)magnitude : 3);
    contexts[1] = ((sign_of(near->left) * 3 + sign_of(near->up)) * 3 + sign_of(near->diagonal)) * 3
                + sign_of(near->behind);
    contexts[2] = (clamp(means->row_sign >> 5, -6, 6) + 6) * 13 + clamp(means->place_sign[place] >> 5, -6, 6) + 6;
    contexts[3] = (sign_of(near->before) * 3 + sign_of(near->behind)) * 3 + sign_of(near->left + near->up);
}

ALWAYS_INLINE void move(int32_t *mean, int32_t to, uint16_t rate) {
    *mean += (int32_t)(((int64_t)(to - *mean) * rate) >> 16);
}

ALWAYS_INLINE void update(means_t *means, int32_t value, uint32_t magnitude, int64_t filter, int64_t channel,
                          int64_t position, int64_t positions, int64_t place, const uint16_t *reciprocal) {
    int32_t to = (magnitude < LARGEST ? (int32_t)magnitude : LARGEST) << 8, sign = ((value > 0) - (value < 0)) * 256;
    int64_t seen = filter * positions + position;
    move(&means->row, to, reciprocal[means->row_count]);
    means->row_count += means->row_count < 205;
    means->local += (to - means->local) >> 2;
    move(&means->channel[channel], to, reciprocal[(seen < 200 ? seen : 200) + 3]);
    move(&means->place[place], to, reciprocal[(filter < 40 ? filter : 40) + 2]);
    move(&means->map, to, reciprocal[position < 200 ? position : 200]);
    means->row_sign += (sign - means->row_sign) >> 5;
    means->place_sign[place] += (sign - means->place_sign[place]) >> 3;
}

static int new_means(means_t *means, const geometry_t *geometry, int32_t mean) {
    int64_t size = geometry->channels * geometry->positions;
    means->mean = means->row = means->local = means->map = mean;
    means->channel = malloc((size_t)geometry->channels * sizeof *means->channel);
    means->place = malloc((size_t)size * sizeof *means->place);
    means->place_sign = calloc((size_t)size, sizeof *means->place_sign);
    if (!means->channel || !means->place || !means->place_sign) return 0;
    for (int64_t i = 0; i < geometry->channels; i++) means->channel[i] = mean;
    for (int64_t i = 0; i < size; i++) means->place[i] = mean;
    return 1;
}

/* ---- values ---- */

ALWAYS_INLINE int code_size(mixer_t *mixer, int mode, int size, int expected, int64_t position,
                            const int *contexts, int least) {
    int asked = smaller(bit_length((uint32_t)((3 * (int64_t)expected) >> 10)), EXPECTED_SIZES);
    int choice = asked ? asked : QUESTIONS + (int)(position < 31 ? position : 31);
    if (asked < least || code_mixed(mixer, mode, size > asked, asked, contexts, INPUTS, choice)) {
        for (asked++; asked < 32; asked++) {
            int question = UPWARD + smaller(asked, 15);
            if (!code_mixed(mixer, mode, size > asked, question, contexts, INPUTS, question)) break;
        }
    } else {
        for (; asked > least; asked--) {
            int question = DOWNWARD + asked;
            if (code_mixed(mixer, mode, size > asked - 1, question, contexts, INPUTS, question)) break;
        }
    }
    return asked;
}

ALWAYS_INLINE uint32_t code_magnitude(mixer_t *mixer, int mode, uint32_t magnitude, int expected, int64_t position,
                                      const int *contexts, int least) {
    int size = code_size(mixer, mode, bit_length(magnitude), expected, position, contexts, least);
    if (size < 2) return (uint32_t)size;
    int question = SECOND_BIT + smaller(size, 15);
    uint32_t coded = 2 | code_mixed(mixer, mode, magnitude >> (size - 2) & 1, question, contexts, INPUTS, question);
    if (size > 2) {
        int context = smaller(size, 15) * 2 + (coded & 1);
        coded = coded * 2 | code_plainly(mixer, mode, magnitude >> (size - 3) & 1, context);
    }
    for (int place = size - 4; place >= 0; place--)
        coded = coded * 2 | code_bit(&mixer->coder, mode, magnitude >> place & 1, 1 << 15);
    return coded;
}

/* One value, whose magnitude is known to be at least 0 or 1; 0 when the content is damaged. */
ALWAYS_INLINE int code_value(mixer_t *mixer, means_t *means, int mode, int32_t *value, const geometry_t *geometry,
                             const int32_t *share, int64_t filter, int64_t channel, int64_t position, int64_t column,
                             int least) {
    int64_t place = channel * geometry->positions + position, size = geometry->channels * geometry->positions;
    int contexts[INPUTS], negative = 0;
    neighbours_t near = neighbours_of(value, filter, size, place, column, position, geometry);
    int expected = expected_magnitude(means, share, channel, place, &near);
    magnitude_contexts(contexts, means, place, expected, &near);
    uint32_t magnitude = *value < 0 ? 0 - (uint32_t)*value : (uint32_t)*value;
    magnitude = code_magnitude(mixer, mode, magnitude, expected, position, contexts, least);
    if (magnitude) {
        sign_contexts(contexts, means, place, magnitude, &near);
        negative = code_mixed(mixer, mode, *value < 0, SIGN, contexts, SIGN_INPUTS, SIGN);
    }
    if (magnitude > ((uint32_t)1 << 31) - !negative) return 0;
    if (mode == DECODING) *value = (int32_t)(negative ? 0 - magnitude : magnitude);
    update(means, *value, magnitude, filter, channel, position, geometry->positions, place, mixer->tables.reciprocal);
    return mode != DECODING || mixer->coder.position <= mixer->coder.length + FLUSHED;
}

ALWAYS_INLINE int64_t group_length(const geometry_t *geometry, const settings_t *settings) {
    return settings->grouped && geometry->positions > WHOLE_MAP ? GROUP_LENGTH : geometry->positions;
}

ALWAYS_INLINE int nonzeros(const int32_t *values, int64_t count) {
    int found = 0;
    for (int64_t i = 0; i < count; i++) found += values[i] != 0;
    return found;
}

/* Whether a group holds anything but zeros. */
ALWAYS_INLINE int code_presence(mixer_t *mixer, means_t *means, int mode, const int32_t *values,
                                const geometry_t *geometry, const settings_t *settings, int64_t filter,
                                int64_t channel, int64_t begin, int64_t count) {
    static const neighbours_t none = {0, 0, 0, 0, 0};
    int64_t place = channel * geometry->positions + begin, size = geometry->channels * geometry->positions, sum = 0;
    for (int64_t i = 0; i < count; i++) sum += means->place[place + i];
    int here = magnitude_level((int)(sum / count)), length = (int)group_length(geometry, settings);
    int before = filter ? smaller(nonzeros(values - size, count), 7) : 0;
    int behind = place >= length ? smaller(nonzeros(values - length, count), 7) : 0;
    int expected = expected_magnitude(means, settings->share, channel, place + count / 2, &none);
    int contexts[INPUTS] = {
        0, clamp(level(expected, 2) - 6, 0, 63), before * 8 + behind, magnitude_level(means->local) * 20 + here,
        here * 20 + magnitude_level(means->row),
        magnitude_level(means->map) * 20 + means->groups + 2 * smaller(behind, 5)};
    int any = code_mixed(mixer, mode, mode == DECODING ? 0 : nonzeros(values, count) > 0, GROUP, contexts, INPUTS, GROUP);
    means->groups = (means->groups * 2 + any) & 7;
    return any;
}

/* What update does with zeros, but that the local mean falls as if the group were one of them. */
ALWAYS_INLINE void update_zeros(means_t *means, int64_t filter, int64_t channel, int64_t begin, int64_t count,
                                int64_t positions, const uint16_t *reciprocal) {
    int32_t local = means->local - (means->local >> 2);
    for (int64_t i = begin; i < begin + count; i++)
        update(means, 0, 0, filter, channel, i, positions, channel * positions + i, reciprocal);
    means->local = local;
}

/* Values that follow each other; 0 when the content is damaged. */
ALWAYS_INLINE int code_group(mixer_t *mixer, means_t *means, int mode, int32_t *values, const geometry_t *geometry,
                             const settings_t *settings, int64_t filter, int64_t channel, int64_t begin,
                             int64_t count) {
    int some = !settings->grouped;
    if (!some && !code_presence(mixer, means, mode, values, geometry, settings, filter, channel, begin, count)) {
        update_zeros(means, filter, channel, begin, count, geometry->positions, mixer->tables.reciprocal);
        return mode != DECODING || mixer->coder.position <= mixer->coder.length + FLUSHED;
    }
    for (int64_t i = 0, column = begin % geometry->width; i < count; i++) {
        int least = !some && i == count - 1; /* the last of a group that is not all zero */
        if (!code_value(mixer, means, mode, values + i, geometry, settings->share, filter, channel, begin + i, column,
                        least)) return 0;
        some |= values[i] != 0;
        column = column + 1 < geometry->width ? column + 1 : 0;
    }
    return 1;
}

ALWAYS_INLINE int64_t code_values(mixer_t *mixer, int mode, int32_t *values, const geometry_t *geometry,
                                  const settings_t *settings) {
    means_t means;
    int whole = new_means(&means, geometry, settings->mean);
    int64_t result = whole ? 0 : NO_MEMORY, length = group_length(geometry, settings);
    for (int64_t filter = 0; whole && filter < geometry->filters; filter++) {
        means.row = settings->mean;
        means.row_count = 5;
        means.row_sign = means.groups = 0;
        for (int64_t channel = 0; whole && channel < geometry->channels; channel++) {
            means.map = means.channel[channel];
            for (int64_t begin = 0; whole && begin < geometry->positions; begin += length) {
                int64_t count = begin + length < geometry->positions ? length : geometry->positions - begin;
                whole = code_group(mixer, &means, mode, values, geometry, settings, filter, channel, begin, count);
                values += count;
                if (!whole) result = DAMAGED;
            }
        }
    }
    free(means.channel);
    free(means.place);
    free(means.place_sign);
    return result;
}

/* How many bytes it wrote into content, or NO_ROOM for them, or NO_MEMORY. */
int64_t encode_values(const int32_t *values, const geometry_t *geometry, const settings_t *settings,
                      const tables_t *tables, uint8_t *content, int64_t length) {
    mixer_t *mixer = new_mixer(tables, settings->rate);
    if (!mixer) return NO_MEMORY;
    mixer->coder.content = content;
    mixer->coder.length = length;
    int64_t result = code_values(mixer, ENCODING, (int32_t *)values, geometry, settings);
    if (!result) {
        finish(&mixer->coder);
        result = mixer->coder.no_room ? NO_ROOM : mixer->coder.position;
    }
    free(mixer);
    return result;
}

/* 0, or DAMAGED, or NO_MEMORY. */
int64_t decode_values(int32_t *values, const geometry_t *geometry, const settings_t *settings, const tables_t *tables,
                      const uint8_t *content, int64_t length) {
    mixer_t *mixer = new_mixer(tables, settings->rate);
    if (!mixer) return NO_MEMORY;
    mixer->coder.content = (uint8_t *)content;
    mixer->coder.length = length;
    mixer->coder.word = (uint64_t)read_word(&mixer->coder) << 32;
    mixer->coder.word |= read_word(&mixer->coder);
    int64_t result = code_values(mixer, DECODING, values, geometry, settings);
    if (!result && mixer->coder.position < length) result = DAMAGED;
    free(mixer);
    return result;
}

/* ---- rounding ---- */

typedef struct {
    const float *costs;      /* bits of an answer by its probability, of 4096 */
    float *weights;          /* filters x inputs, in steps; changed: errors go on to later weights */
    const float *feedback;   /* inputs x inputs: what of the error of one weight the later ones take over; or none */
    const float *handed;     /* filters x filters: what of the errors of one filter the later ones take over; or none */
    const float *stiffness;  /* inputs: what a square error of one step costs once the later ones have done so */
    const float *importance; /* filters: by what that is multiplied, in bits */
    const uint8_t *pruned;   /* filters x inputs: the weights that stay zero, 1 for each */
    int32_t largest;         /* magnitude of a code */
} rounding_t;

static float bits_of(mixer_t *mixer, const means_t *means, int value, int expected, int64_t position, int64_t place,
                     const int *contexts, const neighbours_t *near) {
    int sign[INPUTS];
    uint32_t magnitude = (uint32_t)abs(value);
    mixer->coder.bits = 0;
    code_magnitude(mixer, COSTING, magnitude, expected, position, contexts, 0);
    if (magnitude) {
        sign_contexts(sign, means, place, magnitude, near);
        code_mixed(mixer, COSTING, value < 0, SIGN, sign, SIGN_INPUTS, SIGN);
    }
    return mixer->coder.bits;
}

/* The code of a weight: of the nearest one, the next towards zero and zero that whose error and bits cost least. */
static int chosen_code(mixer_t *mixer, const means_t *means, const int32_t *value, const geometry_t *geometry,
                       const int32_t *share, int64_t filter, int64_t channel, int64_t position, float weight,
                       float price, int largest) {
    int64_t place = channel * geometry->positions + position, size = geometry->channels * geometry->positions;
    float limited = weight > largest ? largest : weight < -largest ? -largest : weight;
    int contexts[INPUTS], nearest = (int)(limited + (limited < 0 ? -0.5f : 0.5f));
    if (!nearest) return 0;
    neighbours_t near = neighbours_of(value, filter, size, place, position % geometry->width, position, geometry);
    int expected = expected_magnitude(means, share, channel, place, &near);
    magnitude_contexts(contexts, means, place, expected, &near);
    int candidates[3] = {nearest, nearest - (nearest > 0) + (nearest < 0), 0}, best = 0;
    float least = 0;
    for (int i = 0; i < 3 && (i < 2 || candidates[1]); i++) {
        float error = weight - (float)candidates[i];
        float cost = price * error * error
                   + bits_of(mixer, means, candidates[i], expected, position, place, contexts, &near);
        if (!i || cost < least) {
            least = cost;
            best = candidates[i];
        }
    }
    return best;
}

static void feed_back(float *weights, const float *feedback, float error, int64_t count) {
    for (int64_t i = 0; i < count; i++) weights[i] += error * feedback[i];
}

/* What a filter lost of ``wanted`` goes on to the filters after it. */
static void hand_on(const rounding_t *rounding, float *wanted, const int32_t *codes, int64_t filter,
                    const geometry_t *geometry) {
    int64_t inputs = geometry->channels * geometry->positions;
    for (int64_t place = 0; place < inputs; place++) wanted[place] -= (float)codes[place];
    for (int64_t later = filter + 1; later < geometry->filters; later++) {
        float share = rounding->handed[filter * geometry->filters + later];
        float *weights = rounding->weights + later * inputs;
        for (int64_t place = 0; place < inputs; place++) weights[place] += share * wanted[place];
    }
}

/* As encode_values, of codes that it chooses one after the other, as coded with what was learned so far. */
int64_t round_values(int32_t *codes, const geometry_t *geometry, const settings_t *settings, const tables_t *tables,
                     uint8_t *content, int64_t length, rounding_t *rounding) {
    mixer_t *mixer = new_mixer(tables, settings->rate);
    means_t means;
    int64_t inputs = geometry->channels * geometry->positions;
    float *wanted = malloc(inputs * sizeof(float));
    int whole = mixer && wanted && new_means(&means, geometry, settings->mean);
    if (mixer) {
        mixer->coder.content = content;
        mixer->coder.length = length;
        mixer->coder.costs = rounding->costs;
    }
    for (int64_t filter = 0; whole && filter < geometry->filters; filter++) {
        means.row = settings->mean;
        means.row_count = 5;
        means.row_sign = means.groups = 0;
        float *weights = rounding->weights + filter * inputs;
        memcpy(wanted, weights, inputs * sizeof(float));
        for (int64_t place = 0; place < inputs; place++, codes++) {
            int64_t channel = place / geometry->positions, position = place % geometry->positions;
            if (!position) means.map = means.channel[channel];
            float price = rounding->importance[filter] * rounding->stiffness[place];
            int stays = rounding->pruned[filter * inputs + place];
            *codes = stays ? 0 : chosen_code(mixer, &means, codes, geometry, settings->share, filter, channel, position,
                                             weights[place], price, rounding->largest);
            float error = weights[place] - (float)*codes;
            code_value(mixer, &means, ENCODING, codes, geometry, settings->share, filter, channel, position,
                       position % geometry->width, 0);
            if (error != 0 && rounding->feedback)
                feed_back(weights + place + 1, rounding->feedback + place * inputs + place + 1, error,
                          inputs - place - 1);
        }
        if (rounding->handed) hand_on(rounding, wanted, codes - inputs, filter, geometry);
    }
    int64_t result = NO_MEMORY;
    if (whole) {
        finish(&mixer->coder);
        result = mixer->coder.no_room ? NO_ROOM : mixer->coder.position;
        free(means.channel);
        free(means.place);
        free(means.place_sign);
    }
    free(wanted);
    free(mixer);
    return result;
}

/* ---- bytes by their counts: what byte_counts.py does ---- */

enum { BLOCK = 1 << 16, LANES = 32, PRECISION = 12, UNIT = 1 << PRECISION, LOWEST = 1 << 16 };

/* How many words of 16 bits it wrote at the end of words, which has room for one of each value. */
int64_t encode_bytes(const uint8_t *values, int64_t count, const uint16_t *tables, uint32_t *states, uint16_t *words) {
    uint32_t starts[256];
    int64_t place = count;
    for (int lane = 0; lane < LANES; lane++) states[lane] = LOWEST;
    for (int64_t block = (count - 1) / BLOCK; block >= 0; block--) {
        const uint16_t *table = tables + 256 * block;
        uint32_t sum = 0;
        for (int i = 0; i < 256; sum += table[i++]) starts[i] = sum;
        for (int64_t i = (block + 1) * BLOCK < count ? (block + 1) * BLOCK - 1 : count - 1; i >= block * BLOCK; i--) {
            uint32_t *state = &states[i % LANES], frequency = table[values[i]];
            if (*state >= (uint64_t)frequency << (32 - PRECISION)) {
                words[--place] = (uint16_t)*state;
                *state >>= 16;
            }
            *state = (*state / frequency << PRECISION) + *state % frequency + starts[values[i]];
        }
    }
    return count - place;
}

typedef struct {
    uint16_t frequency, offset; /* offset: of the slot, in the slots of its byte */
    uint8_t byte;
} slot_t;

static void fill_slots(slot_t *slots, const uint16_t *table) {
    for (int byte = 0, place = 0; byte < 256; byte++)
        for (int i = 0; i < table[byte] && place < UNIT; i++, place++) {
            slots[place].frequency = table[byte];
            slots[place].offset = (uint16_t)i;
            slots[place].byte = (uint8_t)byte;
        }
}

ALWAYS_INLINE uint8_t next_byte(uint32_t *state, const slot_t *slots, const uint16_t **words) {
    slot_t slot = slots[*state & (UNIT - 1)];
    uint32_t next = slot.frequency * (*state >> PRECISION) + slot.offset, longer = next << 16 | **words;
    int low = next < LOWEST;
    *state = low ? longer : next;
    *words += low;
    return slot.byte;
}

/* 0 or DAMAGED. The frequencies of each table are UNIT in sum; LANES words may be read after the last. */
int64_t decode_bytes(uint8_t *values, int64_t count, const uint16_t *tables, uint32_t *states, const uint16_t *words,
                     int64_t length) {
    slot_t slots[UNIT];
    const uint16_t *end = words + length;
    for (int64_t begin = 0; begin < count; begin += LANES) {
        if (begin % BLOCK == 0) fill_slots(slots, tables + 256 * (begin / BLOCK));
        if (words > end) return DAMAGED;
        int lanes = count - begin < LANES ? (int)(count - begin) : LANES;
        if (lanes == LANES)
            for (int i = 0; i < LANES; i++) values[begin + i] = next_byte(&states[i], slots, &words);
        else
            for (int i = 0; i < lanes; i++) values[begin + i] = next_byte(&states[i], slots, &words);
    }
    int whole = words == end;
    for (int lane = 0; lane < LANES; lane++) whole &= states[lane] == LOWEST;
    return whole ? 0 : DAMAGED;
}

/* ---- whole symbols: what symbols.py does ---- */

enum { SYMBOL_CONTEXTS = 64, TOKENS = 240, DIRECT = 16, SYMBOL_UNIT = 1 << 15, SEEN = 64, MOST_SEEN = 1 << 21 };
enum { FLUSH = 1 << 17, SLOPES = 128, LONGEST_INTERVAL = 4096, ENTRIES = 256, RARE = 64 };
#define LEAST_STATE ((uint64_t)1 << 31)
#define PLAIN ((uint32_t)1 << 31) /* in place of a frequency: plain bits, this many */

typedef struct {
    uint32_t counts[SYMBOL_CONTEXTS][TOKENS], sign[2][SLOPES];
    uint16_t starts[SYMBOL_CONTEXTS][TOKENS + 1];
    uint8_t first[SYMBOL_CONTEXTS][ENTRIES]; /* token that the first slot of each 128 belongs to */
    int32_t seen[SYMBOL_CONTEXTS], left[SYMBOL_CONTEXTS], tokens;
    uint64_t state, *waiting; /* waiting: what an encoder has not put onto its state yet, which goes from last to first */
    uint8_t *content;
    int64_t position, length, waits;
    int no_room;
    const uint16_t *reciprocal;
} symbols_t;

static uint64_t read_bytes(symbols_t *symbols, int count) {
    uint64_t word = 0;
    for (int i = 0; i < count; i++, symbols->position++)
        if (symbols->position < symbols->length) word |= (uint64_t)symbols->content[symbols->position] << (8 * i);
    return word;
}

ALWAYS_INLINE void refill(symbols_t *symbols) {
    if (symbols->state >= LEAST_STATE) return;
    symbols->state = symbols->state << 32 | read_bytes(symbols, 4);
}

ALWAYS_INLINE void wait_for(symbols_t *symbols, uint32_t start, uint32_t frequency) {
    symbols->waiting[symbols->waits++] = (uint64_t)frequency << 32 | start;
}

/* Put all that waits onto the state, and write the state and the words that it gave off, those of the last first. */
static void flush(symbols_t *symbols) {
    uint64_t state = LEAST_STATE;
    int64_t place = symbols->length;
    for (int64_t i = symbols->waits - 1; i >= 0; i--) {
        uint64_t start = symbols->waiting[i] & UINT32_MAX, frequency = symbols->waiting[i] >> 32;
        int bits = frequency & PLAIN ? (int)(frequency & 63) : 0; /* plain ones */
        if (state >= (bits ? (uint64_t)1 << (63 - bits) : frequency << 48)) {
            if (place - 4 < symbols->position + 8) symbols->no_room = 1;
            if (symbols->no_room) return;
            for (int j = 3; j >= 0; j--) symbols->content[--place] = (uint8_t)(state >> (8 * j));
            state >>= 32;
        }
        state = bits ? state << bits | start : (state / frequency << 15) + state % frequency + start;
    }
    if (symbols->length - symbols->position < 8) symbols->no_room = 1;
    if (symbols->no_room) return;
    for (int j = 0; j < 8; j++) symbols->content[symbols->position++] = (uint8_t)(state >> (8 * j));
    memmove(symbols->content + symbols->position, symbols->content + place, (size_t)(symbols->length - place));
    symbols->position += symbols->length - place;
    symbols->waits = 0;
}

static void rebuild(symbols_t *symbols, int context) {
    uint32_t *counts = symbols->counts[context];
    uint16_t *starts = symbols->starts[context];
    uint64_t sum = 0, before = 0;
    for (int i = 0; i < symbols->tokens; i++) sum += counts[i];
    if (sum > MOST_SEEN) {
        sum = 0;
        for (int i = 0; i < symbols->tokens; i++) sum += counts[i] = (counts[i] + 1) >> 1;
    }
    uint64_t scale = ((uint64_t)(SYMBOL_UNIT - symbols->tokens) << 32) / sum;
    for (int i = 0; i < symbols->tokens; before += counts[i++])
        starts[i] = (uint16_t)((before * scale >> 32) + (uint64_t)i);
    starts[symbols->tokens] = SYMBOL_UNIT;
    for (int i = 0, token = 0; i < ENTRIES; i++) {
        while (starts[token + 1] <= i * (SYMBOL_UNIT / ENTRIES)) token++;
        symbols->first[context][i] = (uint8_t)token;
    }
    int32_t interval = 4 + (symbols->seen[context] >> 3);
    symbols->left[context] = smaller(interval, LONGEST_INTERVAL);
    symbols->seen[context] += symbols->left[context];
}

ALWAYS_INLINE int code_token(symbols_t *symbols, int mode, int token, int context) {
    const uint16_t *starts = symbols->starts[context];
    if (mode == DECODING) {
        uint32_t slot = symbols->state & (SYMBOL_UNIT - 1);
        token = symbols->first[context][slot / (SYMBOL_UNIT / ENTRIES)];
        while (starts[token + 1] <= slot) token++;
        symbols->state = (uint64_t)(starts[token + 1] - starts[token]) * (symbols->state >> 15) + slot - starts[token];
        refill(symbols);
    } else {
        wait_for(symbols, starts[token], (uint32_t)(starts[token + 1] - starts[token]));
    }
    symbols->counts[context][token] += SEEN;
    if (!--symbols->left[context]) rebuild(symbols, context);
    return token;
}

ALWAYS_INLINE uint32_t code_bits(symbols_t *symbols, int mode, uint32_t number, int count) {
    if (mode == DECODING) {
        number = (uint32_t)(symbols->state & (((uint64_t)1 << count) - 1));
        symbols->state >>= count;
        refill(symbols);
    } else {
        wait_for(symbols, number, PLAIN | (uint32_t)count);
    }
    return number;
}

/* Negative or not, by the mean of what two contexts say. */
ALWAYS_INLINE int code_negative(symbols_t *symbols, int mode, int negative, const int *contexts) {
    uint32_t *first = &symbols->sign[0][contexts[0]], *second = &symbols->sign[1][contexts[1]];
    uint32_t share = (uint32_t)clamp((int)(((*first >> 10) + (*second >> 10)) >> 8), RARE, SYMBOL_UNIT - RARE);
    if (mode == DECODING) {
        uint32_t slot = symbols->state & (SYMBOL_UNIT - 1);
        negative = slot < share;
        symbols->state = (negative ? share : SYMBOL_UNIT - share) * (symbols->state >> 15) + slot - (negative ? 0 : share);
        refill(symbols);
    } else {
        wait_for(symbols, negative ? 0 : share, negative ? share : SYMBOL_UNIT - share);
    }
    learn(first, negative, symbols->reciprocal);
    learn(second, negative, symbols->reciprocal);
    return negative;
}

ALWAYS_INLINE int token_of(uint32_t magnitude) {
    int length = bit_length(magnitude);
    return magnitude < DIRECT ? (int)magnitude : DIRECT + (length - 5) * 8 + (int)(magnitude >> (length - 4) & 7);
}

ALWAYS_INLINE int code_symbol(symbols_t *symbols, means_t *means, int mode, int32_t *value, const geometry_t *geometry,
                              const int32_t *share, int64_t filter, int64_t channel, int64_t position, int64_t column) {
    int64_t place = channel * geometry->positions + position, size = geometry->channels * geometry->positions;
    neighbours_t near = neighbours_of(value, filter, size, place, column, position, geometry);
    int expected = expected_magnitude(means, share, channel, place, &near), negative = 0, contexts[INPUTS];
    uint32_t magnitude = *value < 0 ? 0 - (uint32_t)*value : (uint32_t)*value;
    int token = mode == DECODING ? 0 : token_of(magnitude);
    token = code_token(symbols, mode, token, clamp(level(expected, 2) - 6, 0, SYMBOL_CONTEXTS - 1));
    if (token >= DIRECT) {
        int bits = (token - DIRECT) / 8 + 1;
        uint32_t rest = code_bits(symbols, mode, magnitude & (((uint32_t)1 << bits) - 1), bits);
        magnitude = (8 | (uint32_t)(token & 7)) << bits | rest;
    } else {
        magnitude = (uint32_t)token;
    }
    if (magnitude) {
        sign_contexts(contexts, means, place, magnitude, &near);
        negative = code_negative(symbols, mode, *value < 0, contexts);
    }
    if (magnitude > ((uint32_t)1 << 31) - !negative) return 0;
    if (mode == DECODING) *value = (int32_t)(negative ? 0 - magnitude : magnitude);
    update(means, *value, magnitude, filter, channel, position, geometry->positions, place, symbols->reciprocal);
    return 1;
}

/* Begin or end a run of FLUSH values; 0 when the content is damaged. */
static int turn(symbols_t *symbols, int mode, int64_t place, int64_t count) {
    if (mode == ENCODING) {
        if (place) flush(symbols);
        return !symbols->no_room;
    }
    if (place && (symbols->state != LEAST_STATE || symbols->position > symbols->length)) return 0;
    if (place < count) symbols->state = read_bytes(symbols, 8);
    return place < count || symbols->position == symbols->length;
}

ALWAYS_INLINE int64_t code_symbols(symbols_t *symbols, int mode, int32_t *values, const geometry_t *geometry,
                                   const settings_t *settings) {
    means_t means;
    int64_t place = 0, count = geometry->filters * geometry->channels * geometry->positions;
    if (!new_means(&means, geometry, settings->mean)) return NO_MEMORY;
    int whole = 1;
    for (int64_t filter = 0; whole && filter < geometry->filters; filter++) {
        means.row = settings->mean;
        means.row_count = 5;
        means.row_sign = 0;
        for (int64_t channel = 0; whole && channel < geometry->channels; channel++) {
            means.map = means.channel[channel];
            for (int64_t position = 0, column = 0; whole && position < geometry->positions; position++, place++) {
                if (place % FLUSH == 0) whole = turn(symbols, mode, place, count);
                whole = whole && code_symbol(symbols, &means, mode, values + place, geometry, settings->share, filter,
                                             channel, position, column);
                column = column + 1 < geometry->width ? column + 1 : 0;
            }
        }
    }
    whole = whole && turn(symbols, mode, count, count);
    free(means.channel);
    free(means.place);
    free(means.place_sign);
    return whole ? 0 : mode == ENCODING ? NO_ROOM : DAMAGED;
}

/* priors: SYMBOL_CONTEXTS x TOKENS, what each token counts before it was seen. */
static symbols_t *new_symbols(const uint16_t *reciprocal, const uint16_t *priors, int32_t tokens, uint8_t *content,
                              int64_t length) {
    symbols_t *symbols = calloc(1, sizeof *symbols);
    if (!symbols) return NULL;
    symbols->reciprocal = reciprocal;
    symbols->tokens = tokens;
    symbols->content = content;
    symbols->length = length;
    for (int i = 0; i < SLOPES; i++) symbols->sign[0][i] = symbols->sign[1][i] = (uint32_t)1 << 31;
    for (int context = 0; context < SYMBOL_CONTEXTS; context++) {
        for (int i = 0; i < tokens; i++) symbols->counts[context][i] = priors[context * TOKENS + i] + 1;
        rebuild(symbols, context);
    }
    return symbols;
}

/* As encode_values; tokens: above all that the values have, at most TOKENS. */
int64_t encode_symbols(const int32_t *values, const geometry_t *geometry, const settings_t *settings,
                       const tables_t *tables, uint8_t *content, int64_t length, const uint16_t *priors,
                       int32_t tokens) {
    symbols_t *symbols = new_symbols(tables->reciprocal, priors, tokens, content, length);
    int64_t count = geometry->filters * geometry->channels * geometry->positions, result = NO_MEMORY;
    if (symbols) symbols->waiting = malloc(3 * sizeof *symbols->waiting * (size_t)(count < FLUSH ? count : FLUSH));
    if (symbols && symbols->waiting) {
        result = code_symbols(symbols, ENCODING, (int32_t *)values, geometry, settings);
        result = result ? result : symbols->position;
        free(symbols->waiting);
    }
    free(symbols);
    return result;
}

/* As decode_values. */
int64_t decode_symbols(int32_t *values, const geometry_t *geometry, const settings_t *settings, const tables_t *tables,
                       const uint8_t *content, int64_t length, const uint16_t *priors, int32_t tokens) {
    symbols_t *symbols = new_symbols(tables->reciprocal, priors, tokens, (uint8_t *)content, length);
    if (!symbols) return NO_MEMORY;
    int64_t result = code_symbols(symbols, DECODING, values, geometry, settings);
    free(symbols);
    return result;
}

/* The model of model.py, which explains what is done here and why. */
#pragma once

#include "range_coder.h"

enum { INPUTS = 6, SIGN_INPUTS = 4, FEW_INPUTS = 3, FEW_SIGN_INPUTS = 2 };
enum { CELLS = 512, QUESTIONS = 64, CHOICES = QUESTIONS + 32, SHARES = 8 };
enum { APART = 80 }; /* keeps inputs from the same lines of the cache, which distances of a power of two share */
enum { UPWARD = 16, DOWNWARD = 32, GROUP = 46, SIGN = 47, SECOND_BIT = 48, EXPECTED_SIZES = 8 };
enum { LARGEST = 32767, MOST_COUNTED = 250, WHOLE_MAP = 25, GROUP_LENGTH = 8 };
enum { HEAVIEST = 1 << 18, MIXED = 1536 };

typedef struct {
    const uint16_t *squash;
    const int16_t *stretch;
    const uint16_t *reciprocal;
} tables_t;

typedef struct {
    int64_t filters, channels, positions, width;
} geometry_t;

typedef struct {
    int32_t mean, rate, grouped, few, share[SHARES];
} settings_t;

typedef struct {
    range_coder_t coder;
    tables_t tables;
    int32_t rate;
    uint32_t cells[INPUTS][CELLS * QUESTIONS + APART];
    uint32_t plain[QUESTIONS];
    int32_t weights[CHOICES][INPUTS];
    int32_t coded[CHOICES];
} mixer_t;

/* How values are coded: constants, so that loops over inputs are unrolled, and contexts that nobody asks left out. */
typedef struct {
    int mode, inputs, sign_inputs;
} way_t;

typedef struct {
    int32_t mean, row, local, map, row_count, row_sign, groups, wide;
    int32_t *channel, *place, *place_sign;
} means_t;

typedef struct {
    int32_t left, up, diagonal, behind, before;
} neighbours_t;

/* ---- the mixer ---- */

ALWAYS_INLINE void learn(uint32_t *cell, int bit, const uint16_t *reciprocal) {
    uint32_t count = *cell & 1023;
    int64_t probability = *cell >> 10, target = bit ? (1 << 22) - 1 : 0;
    int64_t change = ((target - probability) * reciprocal[count] + (1 << 15)) >> 16;
    *cell += ((uint32_t)change << 10) + (count < MOST_COUNTED);
}

/* With a constant bit, so that the next prediction need not wait until the bit is known. */
ALWAYS_INLINE void adapt(mixer_t *mixer, int bit, int32_t probability, uint32_t **cells, const int32_t *seen,
                         int inputs, int choice) {
    int32_t *weights = mixer->weights[choice];
    int32_t step = (((bit << 16) - probability) * (mixer->rate + ((4096 - mixer->coded[choice]) >> 8))) >> 4;
    mixer->coded[choice] += mixer->coded[choice] < 4096;
    for (int i = 0; i < inputs; i++) {
        weights[i] = clamp_seldom(weights[i] + ((seen[i] * step + (1 << 13)) >> 14), -HEAVIEST, HEAVIEST);
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
    total = clamp_seldom(total, -MIXED, MIXED - 1);
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

static mixer_t *new_mixer(const tables_t *tables, const settings_t *settings) {
    int inputs = settings->few ? FEW_INPUTS : INPUTS, sign_inputs = settings->few ? FEW_SIGN_INPUTS : SIGN_INPUTS;
    mixer_t *mixer = calloc(1, sizeof *mixer);
    if (!mixer) return NULL;
    mixer->tables = *tables;
    mixer->rate = settings->rate;
    mixer->coder.width = UINT64_MAX;
    for (int i = 0; i < inputs; i++) {
        for (int j = 0; j < CELLS * QUESTIONS; j++) mixer->cells[i][j] = (uint32_t)1 << 31;
        for (int j = 0; j < CHOICES; j++) mixer->weights[j][i] = j == SIGN ? 65536 / sign_inputs : 78642 / inputs;
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

/* clamp(level(number, bits) - less, 0, most) where number < 2^24 and less >= 2^bits. A float holds a number's bit length
 * and the bits below its first side by side, and gives them in half of the time. */
ALWAYS_INLINE int clamped_level(int number, int bits, int less, int most) {
    float same = (float)number;
    int32_t content;
    memcpy(&content, &same, sizeof content);
    return clamp((content >> (23 - bits)) - ((126 + bits) << bits) - less, 0, most);
}

ALWAYS_INLINE int magnitude_level(int mean) { return clamped_level(mean, 1, 7, 19); }

ALWAYS_INLINE neighbours_t neighbours_of(const int32_t *value, int64_t filter, int64_t size, int64_t place,
                                         int64_t column, int64_t position, const geometry_t *geometry, int wide) {
    int up = position >= geometry->width;
    neighbours_t found = {
        column ? value[-1] : 0,
        up ? value[-geometry->width] : 0,
        up && column ? value[-geometry->width - 1] : 0,
        place >= geometry->positions ? value[-geometry->positions] : 0,
        filter ? value[-size] : 0,
    };
    if (wide) {
        int32_t *all[] = {&found.left, &found.up, &found.diagonal, &found.behind, &found.before};
        for (int i = 0; i < 5; i++) *all[i] = clamp(*all[i], -LARGEST, LARGEST);
    }
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
    contexts[0] = clamped_level(expected, 2, 6, 63);
    contexts[1] = ((smaller(left, 2) * 3 + smaller(up, 2)) * 3 + smaller(abs(near->behind), 2)) * 3
                + smaller(abs(near->before), 2);
    contexts[2] = here * 20 + magnitude_level(means->row);
    contexts[3] = magnitude_level(means->local) * 20 + here;
    contexts[4] = magnitude_level(means->map) * 20 + magnitude_level((left + up) * 128);
    contexts[5] = 0;
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
    means->wide |= magnitude > LARGEST;
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
    means->wide = 0;
    means->channel = malloc((size_t)geometry->channels * sizeof *means->channel);
    means->place = malloc((size_t)size * sizeof *means->place);
    means->place_sign = calloc((size_t)size, sizeof *means->place_sign);
    if (!means->channel || !means->place || !means->place_sign) return 0;
    for (int64_t i = 0; i < geometry->channels; i++) means->channel[i] = mean;
    for (int64_t i = 0; i < size; i++) means->place[i] = mean;
    return 1;
}

static void free_means(means_t *means) {
    free(means->channel);
    free(means->place);
    free(means->place_sign);
}

static void begin_row(means_t *means, int32_t mean) {
    means->row = mean;
    means->row_count = 5;
    means->row_sign = means->groups = 0;
}

/* ---- values ---- */

ALWAYS_INLINE int code_size(mixer_t *mixer, way_t way, int size, int expected, int64_t position,
                            const int *contexts, int least) {
    int asked = smaller(bit_length((uint32_t)((3 * (int64_t)expected) >> 10)), EXPECTED_SIZES);
    int choice = asked ? asked : QUESTIONS + (int)(position < 31 ? position : 31);
    if (asked < least || code_mixed(mixer, way.mode, size > asked, asked, contexts, way.inputs, choice)) {
        for (asked++; asked < 32; asked++) {
            int question = UPWARD + smaller(asked, 15);
            if (!code_mixed(mixer, way.mode, size > asked, question, contexts, way.inputs, question)) break;
        }
    } else {
        for (; asked > least; asked--) {
            int question = DOWNWARD + asked;
            if (code_mixed(mixer, way.mode, size > asked - 1, question, contexts, way.inputs, question)) break;
        }
    }
    return asked;
}

ALWAYS_INLINE uint32_t code_magnitude(mixer_t *mixer, way_t way, uint32_t magnitude, int expected, int64_t position,
                                      const int *contexts, int least) {
    int size = code_size(mixer, way, bit_length(magnitude), expected, position, contexts, least);
    if (size < 2) return (uint32_t)size;
    int question = SECOND_BIT + smaller(size, 15);
    int second = code_mixed(mixer, way.mode, magnitude >> (size - 2) & 1, question, contexts, way.inputs, question);
    uint32_t coded = 2 | second;
    if (size > 2) {
        int context = smaller(size, 15) * 2 + (coded & 1);
        coded = coded * 2 | code_plainly(mixer, way.mode, magnitude >> (size - 3) & 1, context);
    }
    for (int place = size - 4; place >= 0; place--)
        coded = coded * 2 | code_bit(&mixer->coder, way.mode, magnitude >> place & 1, 1 << 15);
    return coded;
}

/* One value, whose magnitude is known to be at least 0 or 1; 0 when the content is damaged. */
ALWAYS_INLINE int code_value(mixer_t *mixer, means_t *means, way_t way, int32_t *value, const geometry_t *geometry,
                             const int32_t *share, int64_t filter, int64_t channel, int64_t position, int64_t column,
                             int least) {
    int64_t place = channel * geometry->positions + position, size = geometry->channels * geometry->positions;
    int contexts[INPUTS], negative = 0;
    neighbours_t near = neighbours_of(value, filter, size, place, column, position, geometry, means->wide);
    int expected = expected_magnitude(means, share, channel, place, &near);
    magnitude_contexts(contexts, means, place, expected, &near);
    uint32_t magnitude = *value < 0 ? 0 - (uint32_t)*value : (uint32_t)*value;
    magnitude = code_magnitude(mixer, way, magnitude, expected, position, contexts, least);
    if (magnitude) {
        sign_contexts(contexts, means, place, magnitude, &near);
        negative = code_mixed(mixer, way.mode, *value < 0, SIGN, contexts, way.sign_inputs, SIGN);
    }
    if (magnitude > ((uint32_t)1 << 31) - !negative) return 0;
    if (way.mode == DECODING) *value = (int32_t)(negative ? 0 - magnitude : magnitude);
    update(means, *value, magnitude, filter, channel, position, geometry->positions, place, mixer->tables.reciprocal);
    return way.mode != DECODING || mixer->coder.position <= mixer->coder.length + FLUSHED;
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
ALWAYS_INLINE int code_presence(mixer_t *mixer, means_t *means, way_t way, const int32_t *values,
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
        clamped_level(expected, 2, 6, 63), before * 8 + behind, here * 20 + magnitude_level(means->row),
        magnitude_level(means->local) * 20 + here,
        magnitude_level(means->map) * 20 + means->groups + 2 * smaller(behind, 5), 0};
    int any = way.mode != DECODING && nonzeros(values, count);
    any = code_mixed(mixer, way.mode, any, GROUP, contexts, way.inputs, GROUP);
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
ALWAYS_INLINE int code_group(mixer_t *mixer, means_t *means, way_t way, int32_t *values, const geometry_t *geometry,
                             const settings_t *settings, int64_t filter, int64_t channel, int64_t begin,
                             int64_t count) {
    int some = !settings->grouped;
    if (!some && !code_presence(mixer, means, way, values, geometry, settings, filter, channel, begin, count)) {
        update_zeros(means, filter, channel, begin, count, geometry->positions, mixer->tables.reciprocal);
        return way.mode != DECODING || mixer->coder.position <= mixer->coder.length + FLUSHED;
    }
    for (int64_t i = 0, column = begin % geometry->width; i < count; i++) {
        int least = !some && i == count - 1; /* the last of a group that is not all zero */
        if (!code_value(mixer, means, way, values + i, geometry, settings->share, filter, channel, begin + i, column,
                        least)) return 0;
        some |= values[i] != 0;
        column = column + 1 < geometry->width ? column + 1 : 0;
    }
    return 1;
}

ALWAYS_INLINE int64_t code_values(mixer_t *mixer, way_t way, int32_t *values, const geometry_t *geometry,
                                  const settings_t *settings) {
    means_t means;
    int whole = new_means(&means, geometry, settings->mean);
    int64_t result = whole ? 0 : NO_MEMORY, length = group_length(geometry, settings);
    for (int64_t filter = 0; whole && filter < geometry->filters; filter++) {
        begin_row(&means, settings->mean);
        for (int64_t channel = 0; whole && channel < geometry->channels; channel++) {
            means.map = means.channel[channel];
            for (int64_t begin = 0; whole && begin < geometry->positions; begin += length) {
                int64_t count = begin + length < geometry->positions ? length : geometry->positions - begin;
                whole = code_group(mixer, &means, way, values, geometry, settings, filter, channel, begin, count);
                values += count;
                if (!whole) result = DAMAGED;
            }
        }
    }
    free_means(&means);
    return result;
}

ALWAYS_INLINE int64_t code_all_or_few(mixer_t *mixer, int mode, int32_t *values, const geometry_t *geometry,
                                      const settings_t *settings) {
    way_t all = {mode, INPUTS, SIGN_INPUTS}, few = {mode, FEW_INPUTS, FEW_SIGN_INPUTS};
    return settings->few ? code_values(mixer, few, values, geometry, settings)
                         : code_values(mixer, all, values, geometry, settings);
}

/* How many bytes it wrote into content, or NO_ROOM for them, or NO_MEMORY. */
int64_t encode_values(const int32_t *values, const geometry_t *geometry, const settings_t *settings,
                      const tables_t *tables, uint8_t *content, int64_t length) {
    mixer_t *mixer = new_mixer(tables, settings);
    if (!mixer) return NO_MEMORY;
    mixer->coder.content = content;
    mixer->coder.length = length;
    int64_t result = code_all_or_few(mixer, ENCODING, (int32_t *)values, geometry, settings);
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
    mixer_t *mixer = new_mixer(tables, settings);
    if (!mixer) return NO_MEMORY;
    mixer->coder.content = (uint8_t *)content;
    mixer->coder.length = length;
    mixer->coder.word = (uint64_t)read_word(&mixer->coder) << 32;
    mixer->coder.word |= read_word(&mixer->coder);
    int64_t result = code_all_or_few(mixer, DECODING, values, geometry, settings);
    if (!result && mixer->coder.position < length) result = DAMAGED;
    free(mixer);
    return result;
}

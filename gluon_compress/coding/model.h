/* What model.py does, and says why. */
#pragma once

#include "range_coder.h"

enum { SHARES = 8, SIGN_INPUTS = 4, LARGEST = 32767, MOST_COUNTED = 250 };

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
    int32_t mean, row, local, map, row_count, row_sign, groups, wide;
    int32_t *channel, *place, *place_sign;
} means_t;

typedef struct {
    int32_t left, up, diagonal, behind, before;
} neighbours_t;

ALWAYS_INLINE void learn(uint32_t *cell, int bit, const uint16_t *reciprocal) {
    uint32_t count = *cell & 1023;
    int64_t probability = *cell >> 10, target = bit ? (1 << 22) - 1 : 0;
    int64_t change = ((target - probability) * reciprocal[count] + (1 << 15)) >> 16;
    *cell += ((uint32_t)change << 10) + (count < MOST_COUNTED);
}

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

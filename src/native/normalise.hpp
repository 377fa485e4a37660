// Bytes of images to the numbers that a model takes, channel by channel.
#pragma once

#include <cstdint>

namespace committee {

// `images` of `pixels` with `given` bytes each, one for all `channels` or one for each of them;
// `backwards` reads these from behind. Byte times scale plus shift, one number each a channel.
struct Bytes {
    const uint8_t *data;
    int64_t images;
    int64_t pixels;
    int64_t given;
    int64_t channels;
    bool backwards;
    const float *scale;
    const float *shift;
};

namespace generic { void normalise(const Bytes &, float *out); }
#ifdef COMMITTEE_X86
namespace avx2 { void normalise(const Bytes &, float *out); }
namespace avx512 { void normalise(const Bytes &, float *out); }
#endif

} // namespace committee

// What several kernels need: squashing functions, resampling, update rules. Every file sees it.

// The first of two, or the larger; NaN where the first is.
__device__ inline float larger(float a, float b) { return a > b || a != a ? a : b; }

// Squashing functions ---------------------------------------------------------------------------------------------------

enum Activation { SIGMOID, TANH, SCALED_TANH, RELU };

constexpr float AMPLITUDE = 1.7159f, SLOPE = 2.0f / 3.0f;  // of the scaled tanh: LeCun et al. 1998, appendix A

template <Activation KIND>
__device__ inline float activate(float x)
{
    if (KIND == SIGMOID) return 1.0f / (1.0f + expf(-x));
    if (KIND == TANH) return tanhf(x);
    if (KIND == SCALED_TANH) return AMPLITUDE * tanhf(SLOPE * x);
    return larger(x, 0.0f);
}

// f'(x), from y = f(x).
template <Activation KIND>
__device__ inline float derivative(float y)
{
    if (KIND == SIGMOID) return y * (1.0f - y);
    if (KIND == TANH) return 1.0f - y * y;
    if (KIND == SCALED_TANH) return SLOPE * (AMPLITUDE - y * y / AMPLITUDE);
    return y > 0.0f ? 1.0f : 0.0f;
}

// Images ----------------------------------------------------------------------------------------------------------------

__device__ inline float pixel(const unsigned char* image, int height, int width, int x, int y)
{
    return x >= 0 && x < width && y >= 0 && y < height ? image[y * width + x] : 0.0f;
}

// The image at (a x + b y + c, d x + e y + f), bilinear, from 0 to 1; zero outside, and where the point is NaN.
__device__ inline float resample(const unsigned char* image, int height, int width, const float* map, int x, int y)
{
    // Far out is as dark as just outside, and a whole number can hold it.
    const float u = fminf(fmaxf(map[0] * x + map[1] * y + map[2], -2.0f), static_cast<float>(width));
    const float v = fminf(fmaxf(map[3] * x + map[4] * y + map[5], -2.0f), static_cast<float>(height));
    const int left = static_cast<int>(floorf(u)), top = static_cast<int>(floorf(v));
    const float right_share = u - left, bottom_share = v - top;
    const float upper = pixel(image, height, width, left, top) * (1.0f - right_share)
                      + pixel(image, height, width, left + 1, top) * right_share;
    const float lower = pixel(image, height, width, left, top + 1) * (1.0f - right_share)
                      + pixel(image, height, width, left + 1, top + 1) * right_share;
    return (upper * (1.0f - bottom_share) + lower * bottom_share) * (1.0f / 255.0f);
}

// Update rules ----------------------------------------------------------------------------------------------------------

enum Rule { GRADIENT_DESCENT, MOMENTUM, ADAM };

#ifdef RULE

// One parameter, and all that its update needs: Adam's m and v, or momentum's v in m.
struct Weight {
    float value, m, v, average;
};

__device__ inline Weight load_weight(const float* parameters, const float* moments, const float* average, int total, int i)
{
    Weight weight = {parameters[i], 0.0f, 0.0f, 0.0f};
    if (RULE != GRADIENT_DESCENT) weight.m = moments[i];
    if (RULE == ADAM) weight.v = moments[total + i];
    if (average) weight.average = average[i];
    return weight;
}

// hyper: learning rate, 1 - beta1^t, 1 - beta2^t, decay of the average.
__device__ inline void apply_rule(Weight& weight, float gradient, const float* hyper)
{
    if (RULE == GRADIENT_DESCENT) weight.value -= hyper[0] * gradient;
    if (RULE == MOMENTUM) {
        weight.m = MOMENTUM_DECAY * weight.m + gradient;
        weight.value -= hyper[0] * weight.m;
    }
    if (RULE == ADAM) {
        weight.m = BETA1 * weight.m + SHARE1 * gradient;
        weight.v = BETA2 * weight.v + SHARE2 * gradient * gradient;
        weight.value -= hyper[0] * (weight.m / hyper[1]) / (sqrtf(weight.v / hyper[2]) + EPSILON);
    }
    weight.average += (1.0f - hyper[3]) * (weight.value - weight.average);
}

__device__ inline void store_weight(
    const Weight& weight, float* parameters, float* moments, float* average, int total, int i)
{
    parameters[i] = weight.value;
    if (RULE != GRADIENT_DESCENT) moments[i] = weight.m;
    if (RULE == ADAM) moments[total + i] = weight.v;
    if (average) average[i] = weight.average;
}

#endif

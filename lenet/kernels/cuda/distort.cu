// Images, gathered and moved through an affine map each: one pixel of the batch a thread.

extern "C" __global__ void distort(
    const unsigned char* __restrict__ images, const int* __restrict__ index, const float* __restrict__ transforms,
    float* __restrict__ out, int count)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count * HEIGHT * WIDTH) return;
    const int x = i % WIDTH, y = i / WIDTH % HEIGHT, n = i / (WIDTH * HEIGHT);
    const unsigned char* image = images + static_cast<size_t>(index ? index[n] : n) * (HEIGHT * WIDTH);
    out[i] = transforms ? resample(image, HEIGHT, WIDTH, transforms + 6 * n, x, y)
                        : image[y * WIDTH + x] * (1.0f / 255.0f);
}

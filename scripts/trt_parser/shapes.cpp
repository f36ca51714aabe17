#include "shapes.hpp"
#include <algorithm>
#include <cmath>

namespace
{
constexpr int kMostTopK = 3840; // ITopKLayer: "Currently only values of K up to 3840 are supported"

Dims as_dims(std::vector<int64_t> const& sides)
{
    Dims dims{};
    dims.nbDims = sides.size();
    std::copy(sides.begin(), sides.end(), dims.d);
    return dims;
}

// Return dims that a layer takes from a tensor where it has one, with -1 for what is not known yet, else from a setting.
Dims dims_from(LayerPart const& layer, int input, Dims const& setting)
{
    if (!layer.has(input))
        return setting;
    Values const values = layer.in(input).values();
    if (!values)
        refuse("the value of " + layer.in(input).part.name + ", which " + layer.name + " reads");
    Dims dims{};
    dims.nbDims = values->size();
    for (int i = 0; i < dims.nbDims; ++i)
        dims.d[i] = (*values)[i].value_or(-1);
    return dims;
}

// One side of a convolution's or pooling's output.
int64_t window_side(int64_t in, int pre, int post, int window, int stride, int dilation, PaddingMode mode)
{
    if (in < 0)
        return -1;
    int64_t const reach = int64_t(window - 1) * dilation + 1, free = in + pre + post - reach;
    switch (mode)
    {
    case PaddingMode::kEXPLICIT_ROUND_DOWN: return free / stride + 1;
    case PaddingMode::kEXPLICIT_ROUND_UP: return (free + stride - 1) / stride + 1;
    case PaddingMode::kSAME_UPPER:
    case PaddingMode::kSAME_LOWER: return (in + stride - 1) / stride;
    default: refuse("a padding mode of Caffe");
    }
}

Dims permuted(Dims const& dims, Permutation const& order)
{
    Dims result = dims;
    for (int i = 0; i < dims.nbDims; ++i)
        result.d[i] = dims.d[order.order[i]];
    return result;
}
} // namespace

int64_t volume(Dims const& dims)
{
    int64_t product = 1;
    for (int i = 0; i < dims.nbDims; ++i)
    {
        if (dims.d[i] < 0)
            return -1;
        product *= dims.d[i];
    }
    return product;
}

bool same(Dims const& a, Dims const& b)
{
    return a.nbDims == b.nbDims && std::equal(a.d, a.d + a.nbDims, b.d);
}

std::string text(Dims const& dims)
{
    std::string out = "(";
    for (int i = 0; i < dims.nbDims; ++i)
        out += (i ? ", " : "") + std::to_string(dims.d[i]);
    return out + ")";
}

Dims broadcast(LayerPart const& layer, Dims const& a, Dims const& b)
{
    layer.require(a.nbDims == b.nbDims, "elements of " + text(a) + " and " + text(b) + ": the ranks differ");
    Dims out = a;
    for (int i = 0; i < a.nbDims; ++i)
    {
        layer.require(a.d[i] == b.d[i] || a.d[i] == 1 || b.d[i] == 1 || a.d[i] < 0 || b.d[i] < 0,
            "elements of " + text(a) + " and " + text(b));
        out.d[i] = a.d[i] == 1 ? b.d[i] : b.d[i] == 1 || a.d[i] >= 0 ? a.d[i] : b.d[i];
    }
    return out;
}

Dims convolution_shape(LayerPart const& layer, Convolution const& settings)
{
    Dims out = layer.in(0).dims();
    Dims const& kernel = settings.mKernelSizeNd;
    layer.require(out.nbDims == 4 && kernel.nbDims == 2, "a 2-D convolution of " + text(out));
    int const groups = settings.mNbGroups, maps = settings.mNbOutputMaps;
    layer.require(out.d[1] % groups == 0 && maps % groups == 0, "channels that the groups divide");
    int64_t const weights = int64_t(out.d[1]) / groups * maps * kernel.d[0] * kernel.d[1];
    if (layer.has(1))
    {
        Dims const read = layer.in(1).dims();
        Dims const wanted = as_dims({maps, out.d[1] / groups, kernel.d[0], kernel.d[1]});
        layer.require(same(read, wanted), "weights of " + text(wanted) + ", not of " + text(read));
        layer.require(settings.mKernelWeights.count == 0, "weights as a tensor or as a setting, not both");
    }
    else
        layer.require(settings.mKernelWeights.count == weights, std::to_string(weights) + " weights");
    layer.require(settings.mBiasWeights.count == 0 || settings.mBiasWeights.count == maps, "a bias for each map");
    out.d[1] = maps;
    for (int i = 0; i < 2; ++i)
        out.d[2 + i] = window_side(out.d[2 + i], settings.mPrePadding.d[i], settings.mPostPadding.d[i], kernel.d[i],
            settings.mStrideNd.d[i], settings.mDilationNd.d[i], settings.mPaddingMode);
    return out;
}

Dims pooling_shape(LayerPart const& layer, Pooling const& settings)
{
    Dims out = layer.in(0).dims();
    Dims const& window = settings.mWindowSizeNd;
    layer.require(out.nbDims == 4 && window.nbDims == 2, "a 2-D pooling of " + text(out));
    for (int i = 0; i < 2; ++i)
        out.d[2 + i] = window_side(out.d[2 + i], settings.mPrePadding.d[i], settings.mPostPadding.d[i], window.d[i],
            settings.mStrideNd.d[i], 1, settings.mPaddingMode);
    return out;
}

Dims concatenation_shape(LayerPart const& layer, int axis)
{
    Dims out = layer.in(0).dims();
    layer.require(axis >= 0 && axis < out.nbDims, "an axis of " + text(out));
    for (size_t i = 1; i < layer.inputs.size(); ++i)
    {
        Dims const more = layer.in(i).dims();
        layer.require(more.nbDims == out.nbDims, "a concatenation of " + text(out) + " and " + text(more));
        for (int d = 0; d < out.nbDims; ++d)
            layer.require(d == axis || out.d[d] == more.d[d] || out.d[d] < 0 || more.d[d] < 0,
                "a concatenation of " + text(out) + " and " + text(more));
        out.d[axis] = out.d[axis] < 0 || more.d[axis] < 0 ? -1 : out.d[axis] + more.d[axis];
    }
    return out;
}

Dims gather_shape(LayerPart const& layer, StoredGatherLayer const& settings)
{
    Dims const data = layer.in(0).dims(), indices = layer.in(1).dims();
    layer.require(layer.in(1).type() == DataType::kINT32, "INT32 indices");
    int const batch = settings.mNbElementWiseDims;
    std::vector<int64_t> out;
    if (settings.mMode == GatherMode::kDEFAULT)
    {
        int const axis = settings.mGatherAxis;
        layer.require(axis >= batch && axis < data.nbDims, "an axis of " + text(data));
        out.assign(data.d, data.d + axis);
        out.insert(out.end(), indices.d + batch, indices.d + indices.nbDims);
        out.insert(out.end(), data.d + axis + 1, data.d + data.nbDims);
    }
    else if (settings.mMode == GatherMode::kND)
    {
        layer.require(data.nbDims > 0 && indices.nbDims > 0, "no scalars");
        int const depth = indices.d[indices.nbDims - 1];
        layer.require(depth >= 1 && batch + depth <= data.nbDims, "rows of at most " + text(data));
        for (int i = 0; i < batch; ++i)
            layer.require(data.d[i] == indices.d[i], "equal batches of " + text(data) + " and " + text(indices));
        out.assign(indices.d, indices.d + indices.nbDims - 1);
        out.insert(out.end(), data.d + batch + depth, data.d + data.nbDims);
    }
    else
        refuse("GatherElements");
    layer.require(out.size() <= size_t(Dims::MAX_DIMS), "at most 8 dimensions");
    return as_dims(out);
}

Dims quantiser_shape(LayerPart const& layer, int axis)
{
    Dims const dims = layer.in(0).dims(), scale = layer.in(1).dims();
    layer.require(scale.nbDims <= 1, "a scale that is a number or a vector, not " + text(scale));
    if (volume(scale) != 1)
    {
        layer.require(axis >= 0 && axis < dims.nbDims, "an axis of " + text(dims));
        layer.require(scale.d[0] == dims.d[axis], "a scale for each channel of " + text(dims));
    }
    layer.require(layer.in(1).part.producer != nullptr && layer.in(1).part.producer->type == LayerType::kCONSTANT,
        "a scale that is known when the engine is built");
    return dims;
}

Dims reduce_shape(LayerPart const& layer, StoredReduceLayer const& settings)
{
    Dims const dims = layer.in(0).dims();
    layer.require(settings.mReduceAxes != 0 && settings.mReduceAxes >> dims.nbDims == 0, "axes of " + text(dims));
    std::vector<int64_t> out;
    for (int i = 0; i < dims.nbDims; ++i)
    {
        bool const reduced = settings.mReduceAxes >> i & 1;
        if (!reduced)
            out.push_back(dims.d[i]);
        else if (settings.mKeepDimensions)
            out.push_back(1);
    }
    return as_dims(out);
}

Dims resize_shape(LayerPart const& layer, Resize const& settings)
{
    Dims out = layer.in(0).dims();
    if (layer.has(1) || settings.scales.empty())
    {
        Dims const wanted = dims_from(layer, 1, settings.mOutputDimensions);
        layer.require(wanted.nbDims == out.nbDims, "an output of the input's rank");
        return wanted;
    }
    layer.require(int(settings.scales.size()) == out.nbDims, "a factor for each dimension of " + text(out));
    for (int i = 0; i < out.nbDims; ++i)
        if (out.d[i] >= 0)
            out.d[i] = std::floor(out.d[i] * settings.scales[i]);
        else
            layer.require(settings.scales[i] == 1.0F, "a factor of 1 for an open dimension");
    return out;
}

Dims shuffle_shape(LayerPart const& layer, Shuffle const& settings)
{
    Dims const in = permuted(layer.in(0).dims(), settings.mFirstTranspose);
    if (!settings.reshapes && !layer.has(1))
        return permuted(in, settings.mSecondTranspose);
    Dims out = dims_from(layer, 1, settings.mReshapeDimensions);
    int64_t left = 1; // elements of the input over those of the known sides; open sides that are copied cancel out
    int open = 0, inferred = -1;
    for (int i = 0; i < in.nbDims; ++i)
        in.d[i] < 0 ? open += 1 : left *= in.d[i];
    for (int i = 0; i < out.nbDims; ++i)
    {
        bool const copied = out.d[i] == 0 && settings.mZeroIsPlaceholder;
        if (copied)
        {
            layer.require(i < in.nbDims, "a 0 that copies a side of " + text(in));
            out.d[i] = in.d[i];
            open -= in.d[i] < 0;
        }
        if (out.d[i] > 0)
        {
            layer.require(open != 0 || left % out.d[i] == 0, "a reshape of " + text(in) + " to " + text(out));
            left /= out.d[i];
        }
        else if (!copied)
        {
            // a tensor's unknown value is as open as the -1 of which there may be one
            layer.require(inferred < 0 || layer.has(1), "one -1 only");
            inferred = i;
        }
    }
    if (inferred >= 0)
        out.d[inferred] = open > 0 ? -1 : left;
    else
        layer.require(open > 0 || left == 1, "a reshape of " + text(in) + " to " + text(out));
    return permuted(out, settings.mSecondTranspose);
}

Dims slice_shape(LayerPart const& layer, StoredSliceLayer const& settings)
{
    Dims const in = layer.in(0).dims(), start = dims_from(layer, 1, settings.mStart);
    Dims const size = dims_from(layer, 2, settings.mSize), stride = dims_from(layer, 3, settings.mStride);
    layer.require(in.nbDims == start.nbDims && in.nbDims == size.nbDims && in.nbDims == stride.nbDims,
        "a start, size and stride for each dimension of " + text(in));
    for (int i = 0; i < in.nbDims && settings.mMode == SliceMode::kSTRICT_BOUNDS; ++i)
    {
        int64_t const last = start.d[i] + int64_t(size.d[i] - 1) * stride.d[i];
        layer.require(in.d[i] < 0 || size.d[i] < 1 || (start.d[i] >= 0 && last >= 0 && last < in.d[i]),
            "a slice within " + text(in));
    }
    return size;
}

Dims top_k_shape(LayerPart const& layer, StoredTopKLayer const& settings)
{
    Dims out = layer.in(0).dims();
    int k = settings.mK;
    if (layer.has(1))
    {
        Values const values = layer.in(1).values();
        layer.require(values && values->size() == 1 && (*values)[0], "one known k");
        k = *(*values)[0];
    }
    int const axis = std::log2(settings.mReduceAxes);
    layer.require(settings.mReduceAxes == 1U << axis && axis < out.nbDims, "one axis of " + text(out));
    layer.require(out.nbDims >= 2, "at least two dimensions");
    layer.require(k >= 1 && k <= kMostTopK, "k from 1 to 3840");
    layer.require(out.d[axis] < 0 || k <= out.d[axis], "k of at most " + std::to_string(out.d[axis]));
    out.d[axis] = k;
    return out;
}

Values constant_values(StoredConstantLayer const& settings)
{
    Weights const& weights = settings.mWeights;
    if (weights.type != DataType::kINT32 || settings.mDimensions.nbDims > 1)
        return std::nullopt;
    auto const* first = static_cast<int32_t const*>(weights.values);
    return std::vector<std::optional<int64_t>>(first, first + weights.count);
}

Values concatenation_values(LayerPart const& layer)
{
    std::vector<std::optional<int64_t>> all;
    for (Tensor const* input : layer.inputs)
    {
        Values const values = input->values();
        if (!values)
            return std::nullopt;
        all.insert(all.end(), values->begin(), values->end());
    }
    return all;
}

Values elementwise_values(LayerPart const& layer, ElementWiseOperation op)
{
    Values const a = layer.in(0).values(), b = layer.in(1).values();
    if (!a || !b || a->empty() || b->empty())
        return std::nullopt;
    std::vector<std::optional<int64_t>> out(std::max(a->size(), b->size()));
    for (size_t i = 0; i < out.size(); ++i)
    {
        auto const x = (*a)[i % a->size()], y = (*b)[i % b->size()];
        if (!x || !y)
            continue;
        switch (op)
        {
        case ElementWiseOperation::kSUM: out[i] = *x + *y; break;
        case ElementWiseOperation::kPROD: out[i] = *x * *y; break;
        case ElementWiseOperation::kMAX: out[i] = std::max(*x, *y); break;
        case ElementWiseOperation::kMIN: out[i] = std::min(*x, *y); break;
        case ElementWiseOperation::kSUB: out[i] = *x - *y; break;
        case ElementWiseOperation::kDIV: out[i] = *x / *y; break;
        default: return std::nullopt;
        }
    }
    return out;
}

Values gather_values(LayerPart const& layer, StoredGatherLayer const& settings)
{
    Values const data = layer.in(0).values(), indices = layer.in(1).values();
    if (!data || !indices || settings.mMode != GatherMode::kDEFAULT)
        return std::nullopt;
    std::vector<std::optional<int64_t>> out;
    for (auto const& index : *indices)
        out.push_back(index && *index >= 0 && *index < int64_t(data->size()) ? (*data)[*index] : std::nullopt);
    return out;
}

Values shape_values(LayerPart const& layer)
{
    Dims const dims = layer.in(0).dims();
    std::vector<std::optional<int64_t>> out;
    for (int i = 0; i < dims.nbDims; ++i)
        out.push_back(dims.d[i] < 0 ? std::nullopt : std::optional<int64_t>(dims.d[i]));
    return out;
}

Values slice_values(LayerPart const& layer, StoredSliceLayer const& settings)
{
    Values const data = layer.in(0).values();
    if (!data || layer.inputs.size() > 1 || settings.mSize.nbDims != 1)
        return std::nullopt;
    std::vector<std::optional<int64_t>> out;
    for (int i = 0; i < settings.mSize.d[0]; ++i)
        out.push_back(data->at(settings.mStart.d[0] + i * settings.mStride.d[0]));
    return out;
}

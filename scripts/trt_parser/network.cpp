#include "network.hpp"
#include "shapes.hpp"
#include <algorithm>

namespace
{
uint64_t generation = 1; // shapes that were inferred in an earlier one are inferred again

Dims all(int count, int value)
{
    Dims dims{};
    dims.nbDims = count;
    std::fill_n(dims.d, count, value);
    return dims;
}

bool is_real(DataType type)
{
    return type == DataType::kFLOAT || type == DataType::kHALF;
}

bool compares(ElementWiseOperation op)
{
    return op >= ElementWiseOperation::kAND;
}
} // namespace

void Watched::changed()
{
    if (of != nullptr && of->cached_at == generation)
        ++generation;
}

Dims Tensor::Part::getDimensions() const noexcept
{
    return producer == nullptr ? mDimensions : producer->output(index).dims;
}

DataType Tensor::Part::getType() const noexcept
{
    return producer == nullptr ? mType : producer->output(index).type;
}

void Tensor::Part::setType(DataType type) noexcept
{
    if (producer == nullptr)
        mType = type;
    else // "types of network outputs": NvInfer.h leaves others as they are inferred
    {
        if (!marked)
            refuse("ITensor::setType of " + name + ", which is neither an input nor an output");
        producer->setOutputType(index, type);
    }
}

Values Tensor::values() const
{
    LayerPart const* producer = part.producer;
    return producer != nullptr && producer->values ? producer->values(*producer) : std::nullopt;
}

ITensor* LayerPart::getInput(int32_t index) const noexcept
{
    return has(index) ? inputs[index] : nullptr;
}

ITensor* LayerPart::getOutput(int32_t index) const noexcept
{
    return index < int(outputs.size()) ? &outputs[index] : nullptr;
}

void LayerPart::setInput(int32_t index, ITensor& tensor) noexcept
{
    require(index < int(std::max(inputs.size(), most_inputs)), "input " + std::to_string(index));
    if (index >= int(inputs.size()))
        inputs.resize(index + 1);
    inputs[index] = &Tensor::of(tensor);
    ++generation;
}

void LayerPart::setOutputType(int32_t index, DataType type) noexcept
{
    types[index] = type;
    ++generation;
}

Typed const& LayerPart::output(int32_t index) const
{
    if (cached_at != generation)
    {
        cached = infer(*this);
        for (auto const& [at, type] : types)
            cached.at(at).type = type;
        cached_at = generation;
    }
    return cached.at(index);
}

Tensor& LayerPart::in(int32_t index) const
{
    require(has(index), "input " + std::to_string(index));
    return *inputs[index];
}

void LayerPart::breaks(std::string const& rule) const
{
    end(kBadNetwork, "layer " + name + " of type " + std::to_string(int(type)) + " does not have " + rule);
}

ITensor* Network::Part::addInput(char const* name, DataType type, Dims dimensions) noexcept
{
    Tensor& tensor = owned_inputs.emplace_back();
    tensor.part.name = name;
    tensor.part.mType = type;
    tensor.part.mDimensions = dimensions;
    inputs.push_back(&tensor);
    return &tensor;
}

void Network::Part::markOutput(ITensor& tensor) noexcept
{
    Tensor::of(tensor).part.marked = true;
    outputs.push_back(&Tensor::of(tensor));
}

template <class Kind> Kind& Network::Part::add(LayerType type, std::vector<ITensor*> const& from, int count)
{
    auto owned = std::make_unique<Kind>();
    Kind& node = *owned;
    layers.push_back(std::move(owned));
    LayerPart& part = node.part;
    part.type = type;
    part.name = "(Unnamed Layer* " + std::to_string(layers.size() - 1) + ")";
    for (ITensor* tensor : from)
        part.inputs.push_back(&Tensor::of(*tensor));
    for (int i = 0; i < count; ++i)
    {
        Tensor& tensor = part.outputs.emplace_back();
        tensor.part.producer = &part;
        tensor.part.index = i;
        tensor.part.name = part.name + "_output" + std::to_string(i);
    }
    return node;
}

IActivationLayer* Network::Part::addActivation(ITensor& input, ActivationType type) noexcept
{
    auto& node = add<ActivationNode>(LayerType::kACTIVATION, {&input});
    node.settings.mActivationType = type;
    node.part.infer = [](LayerPart const& layer) -> std::vector<Typed> {
        layer.require(is_real(layer.in(0).type()), "a real input");
        return {{layer.in(0).dims(), layer.in(0).type()}};
    };
    return &node.api();
}

IConcatenationLayer* Network::Part::addConcatenation(ITensor* const* tensors, int32_t count) noexcept
{
    auto& node = add<ConcatenationNode>(LayerType::kCONCATENATION, std::vector<ITensor*>(tensors, tensors + count));
    node.settings.mAxis = std::max(0, tensors[0]->getDimensions().nbDims - 3); // IConcatenationLayer::setAxis
    node.part.infer = [&node](LayerPart const& layer) -> std::vector<Typed> {
        for (size_t i = 1; i < layer.inputs.size(); ++i)
            layer.require(layer.in(i).type() == layer.in(0).type(), "inputs of one type");
        return {{concatenation_shape(layer, node.settings.mAxis), layer.in(0).type()}};
    };
    node.part.values = concatenation_values;
    return &node.api();
}

IConstantLayer* Network::Part::addConstant(Dims dims, Weights weights) noexcept
{
    // NvInfer.h: kUINT8 is not supported. 8.x refuses INT8, too ("invalid weights type of Int8", onnxruntime#11535), and
    // then gives the parser no layer.
    if (weights.type == DataType::kUINT8 || weights.type == DataType::kINT8)
        end(kBadNetwork, "a constant of 8-bit integers, which TensorRT 8 does not take");
    auto& node = add<ConstantNode>(LayerType::kCONSTANT, {});
    node.settings.mDimensions = dims;
    node.settings.mWeights = weights;
    node.part.infer = [&node](LayerPart const& layer) -> std::vector<Typed> {
        Dims const& dims = node.settings.mDimensions;
        layer.require(volume(dims) == node.settings.mWeights.count, "as many weights as " + text(dims) + " has");
        return {{dims, node.settings.mWeights.type}};
    };
    node.part.values = [&node](LayerPart const&) { return constant_values(node.settings); };
    return &node.api();
}

IConvolutionLayer* Network::Part::addConvolutionNd(
    ITensor& input, int32_t maps, Dims kernel, Weights weights, Weights bias) noexcept
{
    auto& node = add<ConvolutionNode>(LayerType::kCONVOLUTION, {&input});
    node.part.most_inputs = 3;
    Convolution& settings = node.settings;
    settings.mNbOutputMaps = maps, settings.mNbGroups = 1;
    settings.mKernelSizeNd = kernel, settings.mKernelWeights = weights, settings.mBiasWeights = bias;
    settings.mStrideNd = settings.mDilationNd = all(kernel.nbDims, 1);
    settings.mPrePadding = settings.mPostPadding = settings.mPaddingNd = all(kernel.nbDims, 0);
    node.part.infer = [&node](LayerPart const& layer) -> std::vector<Typed> {
        layer.require(is_real(layer.in(0).type()), "a real input");
        return {{convolution_shape(layer, node.settings), layer.in(0).type()}};
    };
    return &node.api();
}

IDequantizeLayer* Network::Part::addDequantize(ITensor& input, ITensor& scale) noexcept
{
    auto& node = add<DequantizeNode>(LayerType::kDEQUANTIZE, {&input, &scale});
    node.part.most_inputs = 3; // the parser adds the zero point
    node.settings.mAxis = -1;
    node.part.infer = [&node](LayerPart const& layer) -> std::vector<Typed> {
        layer.require(layer.in(0).type() == DataType::kINT8, "an INT8 input");
        return {{quantiser_shape(layer, node.settings.mAxis), layer.in(1).type()}};
    };
    return &node.api();
}

IElementWiseLayer* Network::Part::addElementWise(ITensor& a, ITensor& b, ElementWiseOperation op) noexcept
{
    auto& node = add<ElementWiseNode>(LayerType::kELEMENTWISE, {&a, &b});
    node.settings.mOperation = op;
    node.part.infer = [&node](LayerPart const& layer) -> std::vector<Typed> {
        DataType const type = layer.in(0).type();
        layer.require(layer.in(1).type() == type, "inputs of one type");
        layer.require(type != DataType::kUINT8 && type != DataType::kINT8, "inputs that it computes with");
        Dims const dims = broadcast(layer, layer.in(0).dims(), layer.in(1).dims());
        return {{dims, compares(node.settings.mOperation) ? DataType::kBOOL : type}};
    };
    node.part.values = [&node](LayerPart const& layer) { return elementwise_values(layer, node.settings.mOperation); };
    return &node.api();
}

IGatherLayer* Network::Part::addGather(ITensor& data, ITensor& indices, int32_t axis) noexcept
{
    IGatherLayer* layer = addGatherV2(data, indices, GatherMode::kDEFAULT);
    layer->setGatherAxis(axis);
    return layer;
}

IGatherLayer* Network::Part::addGatherV2(ITensor& data, ITensor& indices, GatherMode mode) noexcept
{
    auto& node = add<GatherNode>(LayerType::kGATHER, {&data, &indices});
    node.settings.mMode = mode;
    node.part.infer = [&node](LayerPart const& layer) -> std::vector<Typed> {
        return {{gather_shape(layer, node.settings), layer.in(0).type()}};
    };
    node.part.values = [&node](LayerPart const& layer) { return gather_values(layer, node.settings); };
    return &node.api();
}

IIdentityLayer* Network::Part::addIdentity(ITensor& input) noexcept
{
    auto& node = add<IdentityNode>(LayerType::kIDENTITY, {&input});
    node.part.infer = [](LayerPart const& layer) -> std::vector<Typed> {
        return {{layer.in(0).dims(), layer.in(0).type()}};
    };
    node.part.values = [](LayerPart const& layer) { return layer.in(0).values(); };
    return &node.api();
}

INMSLayer* Network::Part::addNMS(ITensor& boxes, ITensor& scores, ITensor& most) noexcept
{
    auto& node = add<NmsNode>(LayerType::kNMS, {&boxes, &scores, &most}, 2);
    node.part.most_inputs = 5;
    node.settings.mTopKBoxLimit = 5000;
    node.part.infer = [](LayerPart const& layer) -> std::vector<Typed> {
        Dims const boxes = layer.in(0).dims(), scores = layer.in(1).dims();
        layer.require(boxes.nbDims == 3 && boxes.d[2] == 4, "the same boxes for each class");
        layer.require(scores.nbDims == 3 && scores.d[0] == boxes.d[0] && scores.d[1] == boxes.d[1],
            "scores of " + text(boxes) + ", not " + text(scores));
        layer.require(is_real(layer.in(0).type()) && layer.in(1).type() == layer.in(0).type(), "real inputs");
        for (int i = 2; i < int(layer.inputs.size()); ++i)
            layer.require(!layer.has(i) || layer.in(i).dims().nbDims == 0, "scalars for its limits");
        Dims chosen = all(2, 3);
        chosen.d[0] = -1; // known when it has run
        return {{chosen, DataType::kINT32}, {all(0, 0), DataType::kINT32}};
    };
    return &node.api();
}

IPoolingLayer* Network::Part::addPoolingNd(ITensor& input, PoolingType type, Dims window) noexcept
{
    auto& node = add<PoolingNode>(LayerType::kPOOLING, {&input});
    Pooling& settings = node.settings;
    settings.mPoolingType = type, settings.mWindowSizeNd = window, settings.mAverageCountExcludesPadding = true;
    settings.mStrideNd = window; // IPoolingLayer::setStrideNd: "Default: (1, 1)" since 8.0, set by the parser anyway
    settings.mPrePadding = settings.mPostPadding = settings.mPaddingNd = all(window.nbDims, 0);
    node.part.infer = [&node](LayerPart const& layer) -> std::vector<Typed> {
        layer.require(is_real(layer.in(0).type()) || layer.in(0).type() == DataType::kINT8, "a real input");
        return {{pooling_shape(layer, node.settings), layer.in(0).type()}};
    };
    return &node.api();
}

IQuantizeLayer* Network::Part::addQuantize(ITensor& input, ITensor& scale) noexcept
{
    auto& node = add<QuantizeNode>(LayerType::kQUANTIZE, {&input, &scale});
    node.part.most_inputs = 3;
    node.settings.mAxis = -1;
    node.part.infer = [&node](LayerPart const& layer) -> std::vector<Typed> {
        layer.require(is_real(layer.in(0).type()), "a real input");
        return {{quantiser_shape(layer, node.settings.mAxis), DataType::kINT8}};
    };
    return &node.api();
}

IReduceLayer* Network::Part::addReduce(ITensor& input, ReduceOperation op, uint32_t axes, bool keep) noexcept
{
    auto& node = add<ReduceNode>(LayerType::kREDUCE, {&input});
    node.settings.mOperation = op, node.settings.mReduceAxes = axes, node.settings.mKeepDimensions = keep;
    node.part.infer = [&node](LayerPart const& layer) -> std::vector<Typed> {
        return {{reduce_shape(layer, node.settings), layer.in(0).type()}};
    };
    return &node.api();
}

IResizeLayer* Network::Part::addResize(ITensor& input) noexcept
{
    auto& node = add<ResizeNode>(LayerType::kRESIZE, {&input});
    node.part.most_inputs = 2;
    node.part.infer = [&node](LayerPart const& layer) -> std::vector<Typed> {
        return {{resize_shape(layer, node.settings), layer.in(0).type()}};
    };
    return &node.api();
}

IShapeLayer* Network::Part::addShape(ITensor& input) noexcept
{
    auto& node = add<ShapeNode>(LayerType::kSHAPE, {&input});
    node.part.infer = [](LayerPart const& layer) -> std::vector<Typed> {
        return {{all(1, layer.in(0).dims().nbDims), DataType::kINT32}};
    };
    node.part.values = shape_values;
    return &node.api();
}

IShuffleLayer* Network::Part::addShuffle(ITensor& input) noexcept
{
    auto& node = add<ShuffleNode>(LayerType::kSHUFFLE, {&input});
    node.part.most_inputs = 2;
    for (int i = 0; i < Dims::MAX_DIMS; ++i)
        node.settings.mFirstTranspose.order[i] = node.settings.mSecondTranspose.order[i] = i;
    node.settings.mZeroIsPlaceholder = true;
    node.part.infer = [&node](LayerPart const& layer) -> std::vector<Typed> {
        return {{shuffle_shape(layer, node.settings), layer.in(0).type()}};
    };
    node.part.values = [](LayerPart const& layer) { return layer.in(0).values(); }; // numbers and vectors have one order
    return &node.api();
}

ISliceLayer* Network::Part::addSlice(ITensor& input, Dims start, Dims size, Dims stride) noexcept
{
    auto& node = add<SliceNode>(LayerType::kSLICE, {&input});
    node.part.most_inputs = 5;
    node.settings.mStart = start, node.settings.mSize = size, node.settings.mStride = stride;
    node.part.infer = [&node](LayerPart const& layer) -> std::vector<Typed> {
        return {{slice_shape(layer, node.settings), layer.in(0).type()}};
    };
    node.part.values = [&node](LayerPart const& layer) { return slice_values(layer, node.settings); };
    return &node.api();
}

ITopKLayer* Network::Part::addTopK(ITensor& input, TopKOperation op, int32_t k, uint32_t axes) noexcept
{
    auto& node = add<TopKNode>(LayerType::kTOPK, {&input}, 2);
    node.part.most_inputs = 2;
    node.settings.mOperation = op, node.settings.mK = k, node.settings.mReduceAxes = axes;
    node.part.infer = [&node](LayerPart const& layer) -> std::vector<Typed> {
        Dims const dims = top_k_shape(layer, node.settings);
        layer.require(is_real(layer.in(0).type()), "a real input");
        return {{dims, layer.in(0).type()}, {dims, DataType::kINT32}};
    };
    return &node.api();
}

IUnaryLayer* Network::Part::addUnary(ITensor& input, UnaryOperation op) noexcept
{
    auto& node = add<UnaryNode>(LayerType::kUNARY, {&input});
    node.settings.mOperation = op;
    node.part.infer = [](LayerPart const& layer) -> std::vector<Typed> {
        return {{layer.in(0).dims(), layer.in(0).type()}};
    };
    return &node.api();
}

#if NV_TENSORRT_MAJOR * 10 + NV_TENSORRT_MINOR >= 86
ICastLayer* Network::Part::addCast(ITensor& input, DataType type) noexcept
{
    auto& node = add<Node<ICastLayer, StoredCastLayer>>(LayerType::kCAST, {&input});
    node.settings.mToType = type;
    node.part.infer = [&node](LayerPart const& layer) -> std::vector<Typed> {
        return {{layer.in(0).dims(), node.settings.mToType}};
    };
    node.part.values = [](LayerPart const& layer) { return layer.in(0).values(); };
    return &node.api();
}
#endif

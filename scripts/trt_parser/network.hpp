// A SIMULATION of TensorRT's network: layers and tensors with the shapes that the documentation of NvInfer.h gives them.
// It is filled by NVIDIA's ONNX parser and computes nothing. There is no builder behind it, and it asks for no driver.
#pragma once
#include "interface.hpp"
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>

struct Typed
{
    Dims dims;
    DataType type;
};

// Values of a shape tensor, as far as they are known before an input's size is.
using Values = std::optional<std::vector<std::optional<int64_t>>>;

struct Tensor final : nvinfer1::ITensor
{
    struct Part : StoredTensor
    {
        void setName(char const* text) noexcept override { name = text; }
        char const* getName() const noexcept override { return name.c_str(); }
        Dims getDimensions() const noexcept override;
        DataType getType() const noexcept override;
        void setType(DataType type) noexcept override;
        bool isNetworkInput() const noexcept override { return producer == nullptr; }
        bool isNetworkOutput() const noexcept override { return marked; }
        void setDimensionName(int32_t, char const*) noexcept override {} // names of open dimensions change no shape

        std::string name;
        LayerPart* producer = nullptr;
        int index = 0;
        bool marked = false;
    };

    Tensor() { mImpl = &part; }
    static Tensor& of(ITensor& tensor) { return static_cast<Tensor&>(tensor); }
    Dims dims() const { return part.getDimensions(); }
    DataType type() const { return part.getType(); }
    Values values() const;

    Part part;
};

// What every layer has: a name, inputs, and outputs whose shapes a function infers when they are asked for.
struct LayerPart final : StoredLayer
{
    LayerType getType() const noexcept override { return type; }
    void setName(char const* text) noexcept override { name = text; }
    char const* getName() const noexcept override { return name.c_str(); }
    int32_t getNbInputs() const noexcept override { return inputs.size(); }
    ITensor* getInput(int32_t index) const noexcept override;
    int32_t getNbOutputs() const noexcept override { return outputs.size(); }
    ITensor* getOutput(int32_t index) const noexcept override;
    void setInput(int32_t index, ITensor& tensor) noexcept override;
    void setOutputType(int32_t index, DataType dataType) noexcept override;
    DataType getOutputType(int32_t index) const noexcept override { return output(index).type; }
#if NV_TENSORRT_MAJOR * 10 + NV_TENSORRT_MINOR >= 86
    void setMetadata(char const*) noexcept override {} // the node's name, for inspectors
#endif

    Typed const& output(int32_t index) const;
    Tensor& in(int32_t index) const;
    bool has(int32_t index) const { return index < int(inputs.size()) && inputs[index] != nullptr; }
    [[noreturn]] void breaks(std::string const& rule) const;
    void require(bool holds, std::string const& rule) const
    {
        if (!holds)
            breaks(rule);
    }

    LayerType type{};
    std::string name;
    std::vector<Tensor*> inputs;
    mutable std::deque<Tensor> outputs;
    std::map<int32_t, DataType> types; // set by setOutputType
    size_t most_inputs = 0;            // of layers whose settings may be tensors
    std::function<std::vector<Typed>(LayerPart const&)> infer;
    std::function<Values(LayerPart const&)> values;

    mutable std::vector<Typed> cached;
    mutable uint64_t cached_at = 0;
};

// A layer of the network, as its owner keeps it.
struct AnyLayer
{
    virtual ~AnyLayer() = default;
    virtual ILayer& api() = 0;
    virtual void write(Json& json) const = 0;
    LayerPart part;
};

template <class Interface, class Settings> struct Node final : AnyLayer
{
    struct Api final : Interface
    {
        Api(Settings& settings, LayerPart& part)
        {
            this->mImpl = &settings;
            this->mLayer = &part;
        }
    };

    Node() : mApi(settings, part) { settings.of = &part; }
    Interface& api() override { return mApi; }
    void write(Json& json) const override { settings.write(json); }

    Settings settings;

private:
    Api mApi;
};

// Settings whose functions are no plain pairs.
struct Convolution : StoredConvolutionLayer
{
    void setPaddingNd(Dims padding) noexcept override { mPaddingNd = mPrePadding = mPostPadding = padding, changed(); }
};
struct Pooling : StoredPoolingLayer
{
    void setPaddingNd(Dims padding) noexcept override { mPaddingNd = mPrePadding = mPostPadding = padding, changed(); }
};
struct Shuffle : StoredShuffleLayer
{
    void setReshapeDimensions(Dims dims) noexcept override { mReshapeDimensions = dims, reshapes = true, changed(); }
    bool reshapes = false;
    void write(Json& json) const { StoredShuffleLayer::write(json), json.field("reshapes", reshapes); }
};
struct Resize : StoredResizeLayer
{
    void setScales(float const* values, int32_t count) noexcept override { scales.assign(values, values + count), changed(); }
    void write(Json& json) const { StoredResizeLayer::write(json), json.field("scales", scales); }
    std::vector<float> scales;
};
using ConvolutionNode = Node<IConvolutionLayer, Convolution>;
using NmsNode = Node<INMSLayer, StoredNMSLayer>;
using PoolingNode = Node<IPoolingLayer, Pooling>;
using ShuffleNode = Node<IShuffleLayer, Shuffle>;
using ResizeNode = Node<IResizeLayer, Resize>;
using ActivationNode = Node<IActivationLayer, StoredActivationLayer>;
using ConcatenationNode = Node<IConcatenationLayer, StoredConcatenationLayer>;
using ConstantNode = Node<IConstantLayer, StoredConstantLayer>;
using DequantizeNode = Node<IDequantizeLayer, StoredDequantizeLayer>;
using ElementWiseNode = Node<IElementWiseLayer, StoredElementWiseLayer>;
using GatherNode = Node<IGatherLayer, StoredGatherLayer>;
using IdentityNode = Node<IIdentityLayer, StoredIdentityLayer>;
using QuantizeNode = Node<IQuantizeLayer, StoredQuantizeLayer>;
using ReduceNode = Node<IReduceLayer, StoredReduceLayer>;
using ShapeNode = Node<IShapeLayer, StoredShapeLayer>;
using SliceNode = Node<ISliceLayer, StoredSliceLayer>;
using TopKNode = Node<ITopKLayer, StoredTopKLayer>;
using UnaryNode = Node<IUnaryLayer, StoredUnaryLayer>;

// nvinfer1::INetworkDefinition with the functions that the parser calls for EfficientDet; others are refused by name.
class Network final : public nvinfer1::INetworkDefinition
{
public:
    Network() { mImpl = &mPart; }

    std::vector<Tensor*> const& inputs() const { return mPart.inputs; }
    std::vector<Tensor*> const& outputs() const { return mPart.outputs; }
    std::vector<std::unique_ptr<AnyLayer>> const& layers() const { return mPart.layers; }

private:
    struct Part : StoredNetworkDefinition
    {
        ITensor* addInput(char const* name, DataType type, Dims dimensions) noexcept override;
        void markOutput(ITensor& tensor) noexcept override;
        int32_t getNbLayers() const noexcept override { return layers.size(); }
        ILayer* getLayer(int32_t index) const noexcept override { return &layers.at(index)->api(); }
        int32_t getNbInputs() const noexcept override { return inputs.size(); }
        ITensor* getInput(int32_t index) const noexcept override { return inputs.at(index); }
        int32_t getNbOutputs() const noexcept override { return outputs.size(); }
        ITensor* getOutput(int32_t index) const noexcept override { return outputs.at(index); }
        bool hasImplicitBatchDimension() const noexcept override { return false; }
        bool hasExplicitPrecision() const noexcept override { return false; }
        bool setWeightsName(Weights, char const*) noexcept override { return true; } // for refitting
        IErrorRecorder* getErrorRecorder() const noexcept override { return recorder; }
        void setErrorRecorder(IErrorRecorder* errors) noexcept override { recorder = errors; } // the parser sets its own

        IActivationLayer* addActivation(ITensor& input, ActivationType type) noexcept override;
        IConcatenationLayer* addConcatenation(ITensor* const* inputs, int32_t count) noexcept override;
        IConstantLayer* addConstant(Dims dims, Weights weights) noexcept override;
        IConvolutionLayer* addConvolutionNd(
            ITensor& input, int32_t maps, Dims kernel, Weights weights, Weights bias) noexcept override;
        IDequantizeLayer* addDequantize(ITensor& input, ITensor& scale) noexcept override;
        IElementWiseLayer* addElementWise(ITensor& a, ITensor& b, ElementWiseOperation op) noexcept override;
        IGatherLayer* addGather(ITensor& data, ITensor& indices, int32_t axis) noexcept override;
        IGatherLayer* addGatherV2(ITensor& data, ITensor& indices, GatherMode mode) noexcept override;
        IIdentityLayer* addIdentity(ITensor& input) noexcept override;
        INMSLayer* addNMS(ITensor& boxes, ITensor& scores, ITensor& most) noexcept override;
        IPoolingLayer* addPoolingNd(ITensor& input, PoolingType type, Dims window) noexcept override;
        IQuantizeLayer* addQuantize(ITensor& input, ITensor& scale) noexcept override;
        IReduceLayer* addReduce(ITensor& input, ReduceOperation op, uint32_t axes, bool keep) noexcept override;
        IResizeLayer* addResize(ITensor& input) noexcept override;
        IShapeLayer* addShape(ITensor& input) noexcept override;
        IShuffleLayer* addShuffle(ITensor& input) noexcept override;
        ISliceLayer* addSlice(ITensor& input, Dims start, Dims size, Dims stride) noexcept override;
        ITopKLayer* addTopK(ITensor& input, TopKOperation op, int32_t k, uint32_t axes) noexcept override;
        IUnaryLayer* addUnary(ITensor& input, UnaryOperation op) noexcept override;
#if NV_TENSORRT_MAJOR * 10 + NV_TENSORRT_MINOR >= 86
        ICastLayer* addCast(ITensor& input, DataType type) noexcept override;
#endif

        template <class Kind> Kind& add(LayerType type, std::vector<ITensor*> const& from, int outputs = 1);

        IErrorRecorder* recorder = nullptr;
        std::vector<Tensor*> inputs, outputs;
        std::deque<Tensor> owned_inputs;
        std::vector<std::unique_ptr<AnyLayer>> layers;
    };

    Part mPart;
};

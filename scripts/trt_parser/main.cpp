// Let NVIDIA's ONNX parser fill a simulated network, and write what it made of the file.
//
//     trt_parser libnvonnxparser.so.8 FILE.onnx NETWORK.json WEIGHTS.bin
//
// Exit codes: 0 parsed, 1 refused by the parser (the file tells why), 3 and 4 as in stored.hpp.
#include "NvOnnxParser.h"
#include "network.hpp"
#include <dlfcn.h>
#include <fstream>
#include <iterator>

namespace
{
class Log final : public nvinfer1::ILogger
{
public:
    void log(Severity severity, char const* message) noexcept override
    {
        if (severity <= Severity::kWARNING)
            messages.push_back({severity, message});
    }
    std::vector<std::pair<Severity, std::string>> messages;
};

std::string list(std::vector<std::string> const& items)
{
    std::string out = "[";
    for (size_t i = 0; i < items.size(); ++i)
        out += (i ? ",\n" : "\n") + items[i];
    return out + "]";
}

std::string names(std::vector<Tensor*> const& tensors)
{
    std::vector<std::string> items;
    for (Tensor const* tensor : tensors)
        items.push_back(tensor == nullptr ? "null" : Json::quoted(tensor->part.name));
    return list(items);
}

std::string described(Tensor const& tensor)
{
    Json json(nullptr);
    json.field("name", tensor.part.name);
    json.field("shape", tensor.dims());
    json.field("type", tensor.type());
    return json.object();
}

std::string described(AnyLayer const& layer, std::FILE* weights)
{
    LayerPart const& part = layer.part;
    Json own(nullptr), settings(weights);
    own.field("name", part.name);
    own.field("type", part.type);
    layer.write(settings);
    std::vector<std::string> outputs;
    for (Tensor const& tensor : part.outputs)
        outputs.push_back(described(tensor));
    std::string text = own.object();
    text.pop_back();
    return text + ", \"inputs\": " + names(part.inputs) + ", \"outputs\": " + list(outputs)
        + ", \"settings\": " + settings.object() + "}";
}
} // namespace

int main(int count, char** arguments)
{
    if (count != 5)
        end(2, "four paths are needed: parser library, ONNX file, JSON file, weights file");
    void* library = dlopen(arguments[1], RTLD_NOW | RTLD_GLOBAL);
    if (library == nullptr)
        end(2, dlerror());
    auto create = reinterpret_cast<void* (*)(void*, void*, int)>(dlsym(library, "createNvOnnxParser_INTERNAL"));
    Log log;
    Network network;
    auto* parser = static_cast<nvonnxparser::IParser*>(create(&network, &log, NV_ONNX_PARSER_VERSION));
    if (parser == nullptr)
        end(2, "createNvOnnxParser gave no parser");
    std::ifstream file(arguments[2], std::ios::binary);
    std::string const model(std::istreambuf_iterator<char>(file), {});
    bool const parsed = parser->parse(model.data(), model.size());

    std::FILE* weights = std::fopen(arguments[4], "wb");
    std::vector<std::string> errors, messages, inputs, layers;
    for (int i = 0; i < parser->getNbErrors(); ++i)
    {
        nvonnxparser::IParserError const* error = parser->getError(i);
        errors.push_back(Json::quoted("node " + std::to_string(error->node()) + ": " + error->desc()));
    }
    for (auto const& [severity, message] : log.messages)
        messages.push_back(Json::quoted(message));
    if (parsed)
    {
        for (Tensor const* tensor : network.inputs())
            inputs.push_back(described(*tensor));
        for (auto const& layer : network.layers())
            layers.push_back(described(*layer, weights));
    }
    std::ofstream(arguments[3]) << "{\"parsed\": " << (parsed ? "true" : "false") << ",\n\"errors\": " << list(errors)
                                << ",\n\"messages\": " << list(messages) << ",\n\"inputs\": " << list(inputs)
                                << ",\n\"outputs\": " << names(network.outputs()) << ",\n\"layers\": " << list(layers) << "}\n";
    std::fclose(weights);
    return parsed ? 0 : 1;
}

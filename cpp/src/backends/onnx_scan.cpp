#include "backends/onnx_scan.hpp"

#include <cstdint>
#include <string_view>
#include <utility>

namespace swiftdet {
namespace {

// Field numbers of onnx.proto, stable by the rules of protobuf.
enum ModelField : std::uint32_t { kModelGraph = 7, kModelFunctions = 25 };
enum GraphField : std::uint32_t { kGraphNode = 1, kGraphInitializer = 5, kGraphOutput = 12, kGraphSparse = 15 };
enum FunctionField : std::uint32_t { kFunctionNode = 7, kFunctionAttribute = 11 };
enum NodeField : std::uint32_t { kNodeAttribute = 5 };
enum AttributeField : std::uint32_t {
  kAttributeTensor = 5,
  kAttributeGraph = 6,
  kAttributeTensors = 10,
  kAttributeGraphs = 11,
  kAttributeSparse = 22,
  kAttributeSparses = 23,
};
enum SparseField : std::uint32_t { kSparseValues = 1, kSparseIndices = 2 };
enum TensorField : std::uint32_t { kTensorName = 8, kTensorDataLocation = 14 };
enum ValueField : std::uint32_t { kValueName = 1 };

constexpr std::uint32_t kExternal = 1;  // TensorProto.DataLocation.EXTERNAL
constexpr int kMaxDepth = 100;          // protobuf's own limit of nesting

struct Field {
  std::uint32_t number = 0;
  std::uint64_t value = 0;   // of a varint
  std::string_view bytes{};  // of a length-delimited field; its data is never null
  [[nodiscard]] bool is_message(std::uint32_t wanted) const { return number == wanted && bytes.data() != nullptr; }
};

/// Reads the fields of one message. ok() turns false at the first malformed byte.
class Reader {
 public:
  explicit Reader(std::string_view message) : rest_(message) {}
  [[nodiscard]] bool ok() const { return ok_; }

  /// The next field, or nothing at the end and when malformed.
  std::optional<Field> next() {
    if (!ok_ || rest_.empty()) return std::nullopt;
    const std::uint64_t key = varint();
    Field field;
    field.number = static_cast<std::uint32_t>(key >> 3U);
    if (!ok_ || (key >> 32U) != 0 || field.number == 0) return fail();
    switch (key & 7U) {
      case 0: field.value = varint(); break;
      case 1: take(8); break;
      case 2: field.bytes = take(varint()); break;
      case 5: take(4); break;
      default:  // groups: no part of ONNX
        return fail();
    }
    return ok_ ? std::optional(field) : std::nullopt;
  }

 private:
  std::nullopt_t fail() {
    ok_ = false;
    return std::nullopt;
  }

  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      if (rest_.empty()) break;
      const auto byte = static_cast<std::uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      if (shift < 64) value |= static_cast<std::uint64_t>(byte & 0x7FU) << shift;
      if ((byte & 0x80U) == 0) return value;
    }
    ok_ = false;
    return 0;
  }

  std::string_view take(std::uint64_t count) {
    if (!ok_ || count > rest_.size()) {
      ok_ = false;
      return {};
    }
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }

  std::string_view rest_;
  bool ok_ = true;
};

class Scanner {
 public:
  OnnxScan result;

  /// Messages are told apart by these functions; each returns false when malformed.
  bool model(std::string_view message) {
    bool has_graph = false;
    const bool ok = each(message, [&](const Field& field) {
      if (field.is_message(kModelGraph)) {
        has_graph = true;
        return graph(field.bytes, 0, true);
      }
      return !field.is_message(kModelFunctions) || function(field.bytes);
    });
    return ok && has_graph;
  }

 private:
  template <typename Visit>
  static bool each(std::string_view message, const Visit& visit) {
    Reader reader(message);
    while (const auto field = reader.next()) {
      if (!visit(*field)) return false;
    }
    return reader.ok();
  }

  bool graph(std::string_view message, int depth, bool is_top) {
    return depth < kMaxDepth && each(
                                    message,
                                    [&](const Field& field) {
                                      if (field.is_message(kGraphNode)) return node(field.bytes, depth);
                                      if (field.is_message(kGraphInitializer)) return tensor(field.bytes);
                                      if (field.is_message(kGraphSparse)) return sparse(field.bytes);
                                      return !is_top || !field.is_message(kGraphOutput) || output(field.bytes);
                                    });
  }

  bool function(std::string_view message) {
    return each(message, [&](const Field& field) {
      if (field.is_message(kFunctionNode)) return node(field.bytes, 0);
      return !field.is_message(kFunctionAttribute) || attribute(field.bytes, 0);
    });
  }

  bool node(std::string_view message, int depth) {
    return each(message,
                [&](const Field& field) { return !field.is_message(kNodeAttribute) || attribute(field.bytes, depth); });
  }

  bool attribute(std::string_view message, int depth) {
    return each(message, [&](const Field& field) {
      if (field.is_message(kAttributeTensor) || field.is_message(kAttributeTensors)) return tensor(field.bytes);
      if (field.is_message(kAttributeSparse) || field.is_message(kAttributeSparses)) return sparse(field.bytes);
      if (field.is_message(kAttributeGraph) || field.is_message(kAttributeGraphs)) {
        return graph(field.bytes, depth + 1, false);
      }
      return true;
    });
  }

  bool sparse(std::string_view message) {
    return each(message, [&](const Field& field) {
      const bool is_tensor = field.is_message(kSparseValues) || field.is_message(kSparseIndices);
      return !is_tensor || tensor(field.bytes);
    });
  }

  bool tensor(std::string_view message) {
    std::string_view name;
    bool external = false;
    const bool ok = each(message, [&](const Field& field) {
      if (field.is_message(kTensorName)) name = field.bytes;
      // Enumerators are read as 32 bits, whatever the length of the varint.
      if (field.number == kTensorDataLocation) external |= static_cast<std::uint32_t>(field.value) == kExternal;
      return true;
    });
    if (external && !result.external_tensor) result.external_tensor = std::string(name);
    return ok;
  }

  bool output(std::string_view message) {
    std::string_view name;
    const bool ok = each(message, [&](const Field& field) {
      if (field.is_message(kValueName)) name = field.bytes;
      return true;
    });
    result.outputs.emplace_back(name);
    return ok;
  }
};

}  // namespace

std::optional<OnnxScan> scan_onnx(std::span<const std::byte> model) {
  Scanner scanner;
  if (!scanner.model({reinterpret_cast<const char*>(model.data()), model.size()})) return std::nullopt;
  return std::move(scanner.result);
}

}  // namespace swiftdet

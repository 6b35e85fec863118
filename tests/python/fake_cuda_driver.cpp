// A stand-in for the driver's library, as far as swiftdet asks it. The environment says what it shows:
// FAKE_GPUS: "name/major/minor/mebibytes", separated by commas; FAKE_INIT: what cuInit returns.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

struct Gpu {
  std::string name;
  int major = 0, minor = 0;
  std::size_t bytes = 0;
};

std::vector<Gpu> gpus() {
  std::vector<Gpu> found;
  const char* text = std::getenv("FAKE_GPUS");
  std::string rest = text == nullptr ? "" : text;
  while (!rest.empty()) {
    const auto end = rest.find(',');
    const std::string one = rest.substr(0, end);
    rest = end == std::string::npos ? "" : rest.substr(end + 1);
    char name[64] = {};
    int major = 0, minor = 0;
    unsigned long mebibytes = 0;
    if (std::sscanf(one.c_str(), "%63[^/]/%d/%d/%lu", name, &major, &minor, &mebibytes) == 4) {
      found.push_back({name, major, minor, static_cast<std::size_t>(mebibytes) << 20});
    }
  }
  return found;
}

void* current = nullptr;
int retained = 0;

}  // namespace

extern "C" {

int cuDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}
int cuInit(unsigned) {
  const char* status = std::getenv("FAKE_INIT");
  return status == nullptr ? 0 : std::atoi(status);
}
int cuDeviceGetCount(int* count) {
  *count = static_cast<int>(gpus().size());
  return 0;
}
int cuDeviceGet(int* device, int index) {
  if (index < 0 || index >= static_cast<int>(gpus().size())) return 101;
  *device = 70 + index;  // a handle is not an index
  return 0;
}
int cuDeviceGetName(char* name, int length, int device) {
  std::snprintf(name, static_cast<std::size_t>(length), "%s",
                gpus().at(static_cast<std::size_t>(device - 70)).name.c_str());
  return 0;
}
int cuDeviceGetPCIBusId(char* text, int length, int device) {
  std::snprintf(text, static_cast<std::size_t>(length), "0000:%02x:00.0", device);
  return 0;
}
int cuDeviceTotalMem_v2(std::size_t* bytes, int device) {
  *bytes = gpus().at(static_cast<std::size_t>(device - 70)).bytes;
  return 0;
}
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  const Gpu gpu = gpus().at(static_cast<std::size_t>(device - 70));
  *value = attribute == 75 ? gpu.major : attribute == 76 ? gpu.minor : -1;
  return 0;
}
int cuGetErrorString(int status, const char** text) {
  *text = status == 999 ? "unknown error" : status == 101 ? "invalid device ordinal" : "system not yet initialized";
  return 0;
}
int cuDevicePrimaryCtxRetain(void** context, int device) {
  ++retained;
  *context = reinterpret_cast<void*>(static_cast<std::size_t>(0x1000000000) + static_cast<std::size_t>(device));
  return 0;
}
int cuDevicePrimaryCtxRelease_v2(int) {
  --retained;
  return 0;
}
int cuCtxPushCurrent_v2(void* context) {
  current = context;
  return 0;
}
int cuCtxPopCurrent_v2(void** context) {
  *context = current;
  current = nullptr;
  return 0;
}
// Not the driver's: what the test asks.
std::size_t fake_current() { return reinterpret_cast<std::size_t>(current); }
int fake_retained() { return retained; }
}

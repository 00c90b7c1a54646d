#include "model/base.h"

#include <ATen/ATen.h>

#include <utility>

#include "model/base_files.h"
#include "model/base_reader.h"
#include "model/guarded.h"
#include "protocol/base_location.h"

namespace crabcast::model {
namespace {

Result<Base> make_shipped_base(at::Device device, at::ScalarType type) {
  Base base{nano(), make_nano_weights(), ""};
  auto hash = hash_base(base.config, base.weights);
  CRABCAST_TRY(hash);
  base.hash = std::move(*hash);
  for (auto& [name, tensor] : base.weights) tensor = tensor.to(device, type);
  return base;
}

Result<Base> read_base(const std::string& folder, at::Device device, at::ScalarType type) {
  auto files = open_base_files(folder);
  if (!files) return fail(files.error());
  CRABCAST_TRY(check_tied_head(*files));
  Base base;
  base.config = files->config;
  BaseReader reader;
  for (const BaseTensor& tensor : files->tensors) {
    auto loaded = reader.load(tensor, device, type, Sharing::map);
    if (!loaded) return fail(loaded.error());
    base.weights.emplace(tensor.name, std::move(*loaded));
  }
  tie_head(base.config, base.weights);
  base.hash = reader.hash();
  return base;
}

}  // namespace

Result<Base> open_base(const std::string& base, at::Device device, at::ScalarType type) {
  return guarded("opening the base " + base, "Use a smaller base or a machine with more memory",
                 [&]() -> Result<Base> {
                   auto place = locate_base(base, {});
                   CRABCAST_TRY(place);
                   return is_shipped_base(*place) ? make_shipped_base(device, type)
                                                  : read_base(*place, device, type);
                 });
}

}  // namespace crabcast::model

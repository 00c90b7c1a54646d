// What a loader needs of a base, made from its config and its tokenizer.
#pragma once

#include <memory>

#include "model/config.h"
#include "model/tokenizer.h"
#include "protocol/error.h"

namespace crabcast::model {

// Crab+'s pictures (224 x 224, one temporal patch = 2 seconds) in the patches of a base.
MediaShape media_shape(const ThinkerConfig& config);

// unsupported: pictures cannot be cut into the base's patches, or the tokenizer gives an id that
// the base does not have, or a special token another id than config.json.
Result<BaseFrontEnd> make_front_end(std::shared_ptr<const Tokenizer> tokenizer,
                                    const ThinkerConfig& config);

}  // namespace crabcast::model

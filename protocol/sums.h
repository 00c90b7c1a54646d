// Adding up what several members or several steps report.
#pragma once

#include <google/protobuf/repeated_field.h>

#include "protocol/common.pb.h"

namespace crabcast {

void add_to(pb::StageSeconds& sum, const pb::StageSeconds& more, double times = 1);
void add_to(pb::LoaderWork& sum, const pb::LoaderWork& more);
void add_to(pb::TaskLoss& sum, const pb::TaskLoss& more);  // takes over the task's name
// Of an answer token, over all tasks; 0 where there are none.
double mean_loss(const google::protobuf::RepeatedPtrField<pb::TaskLoss>& losses);
// The part of `tokens` in `cells` that is missing: what padded batches would compute for nothing.
// 0 without cells.
double padding_share(const pb::LoaderWork& work);

}  // namespace crabcast

// SPDX-License-Identifier: Apache-2.0
#include "runtime/engine/engine_loop.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"

namespace ccoe::engine {
namespace {

SchedulerLimits LimitsOf(const EngineOptions& options) {
  SchedulerLimits limits;
  limits.max_step_tokens = options.max_step_tokens;
  limits.max_prefill_chunk = options.max_prefill_chunk;
  limits.max_running = options.max_running;
  limits.max_steps_in_flight = options.max_steps_in_flight;
  limits.page_tokens = options.page_tokens;
  return limits;
}

std::string NameOf(const Step& step) { return absl::StrCat("step ", step.id); }

// All rows of each entry, as they lie in the runner.
std::vector<HeldRows> AllRows(const MicroBatch& batch) {
  std::vector<HeldRows> held;
  int64_t begin = 0;
  for (const StepEntry& entry : batch.entries) {
    held.push_back({begin, entry.row_count});
    begin += entry.row_count;
  }
  return held;
}

}  // namespace

EngineLoop::EngineLoop(std::unique_ptr<ModelRunner> runner, std::shared_ptr<RequestQueue> queue,
                       const Directories& directories, const EngineOptions& options, int64_t pages)
    : options_(options),
      clock_(ClockOr(options.clock)),
      limits_(LimitsOf(options)),
      runner_(std::move(runner)),
      queue_(std::move(queue)),
      sequences_(pages, options.page_tokens, options.observer),
      in_flight_(options, queue_),
      output_(runner_.get(), &sequences_, options.observer, options.clock),
      recovery_(options, &sequences_, directories.layer_experts),
      layers_(options, {runner_.get(), &in_flight_, &recovery_}) {
  if (spec().has_moe()) {
    const RemoteMoe::Parts parts = {runner_.get(), &output_, directories.ffn_experts, &in_flight_,
                                    &recovery_};
    moe_ = std::make_unique<RemoteMoe>(options, parts);
  }
  runner_->CountIn(options.moe_statistics);
}

void EngineLoop::Run() {
  absl::Time wake = absl::InfiniteFuture();
  while (true) {
    RequestQueue::Events events = queue_->Take(wake - clock_.Now());
    const bool stop = events.stop;
    Handle(std::move(events));
    if (stop) break;
    if (!output_.device_error().ok()) EndWithDevice();
    const bool formed = FormStep();
    Publish();
    wake = formed ? absl::InfinitePast() : NextEvent();
  }
  EndAll(FinishReason::kCancelled, absl::CancelledError("the engine stops"));
  in_flight_.CancelDead();
  Publish();
}

absl::Time EngineLoop::NextEvent() const {
  return std::min(sequences_.NextEvent(), in_flight_.NextEvent(counted_));
}

void EngineLoop::Handle(RequestQueue::Events events) {
  for (SequenceInit& init : events.submissions) {
    const auto sequence = std::make_shared<Sequence>(std::move(init));
    sequences_.Enqueue(sequence);
    if (sequence->awaits_worker()) recovery_.AwaitWorker(sequence, clock_.Now());
  }
  for (uint64_t handle : events.cancels) {
    const std::shared_ptr<Sequence> sequence = sequences_.Find(handle);
    if (sequence == nullptr) continue;
    sequences_.Finish(sequence, FinishReason::kCancelled,
                      absl::CancelledError("cancelled by the caller"), clock_.Now());
  }
  sequences_.FinishExpired(clock_.Now());
  Land(std::move(events.answers));
  if (moe_ != nullptr) {
    while (auto resumed = moe_->TryAgain()) Resume(*std::move(resumed));
  }
  EndSteps();
  sequences_.FinishExpired(clock_.Now());
  if (sequences_.TakeFinishedInStep()) in_flight_.CancelDead();
  for (const std::string& hung : in_flight_.TakeHung(clock_.Now())) {
    if (options_.observer != nullptr) options_.observer->OnHungSwap(hung);
  }
}

void EngineLoop::EndAll(FinishReason reason, const absl::Status& status) {
  std::vector<std::shared_ptr<Sequence>> all;
  for (const SequenceTable::Table* table : {&sequences_.running(), &sequences_.waiting()}) {
    for (const auto& [handle, sequence] : *table) all.push_back(sequence);
  }
  for (const auto& sequence : all) sequences_.Finish(sequence, reason, status, clock_.Now());
}

void EngineLoop::EndWithDevice() {
  queue_->Fail(output_.device_error());
  EndAll(FinishReason::kError, output_.device_error());
}

void EngineLoop::Publish() {
  RequestQueue::Report report;
  report.load.waiting = static_cast<int64_t>(sequences_.waiting().size());
  report.load.running = static_cast<int64_t>(sequences_.running().size());
  report.load.kv_tokens_used = sequences_.pages().used_pages() * options_.page_tokens;
  report.load.kv_tokens_total = sequences_.pages().pages() * options_.page_tokens;
  report.load.prompt_tokens = output_.prompt_tokens();
  report.load.generated_tokens = output_.generated_tokens();
  report.load.preemptions = sequences_.preemptions();
  report.load.steps = static_cast<int64_t>(last_step_id_);
  report.load.last_step_rows = last_step_rows_;
  report.finished = sequences_.TakeFinished();
  report.fresh_waiting = sequences_.fresh();
  queue_->Publish(report, clock_.Now());
}

bool EngineLoop::FormStep() {
  const absl::Time now = clock_.Now();
  counted_ = now;
  // Who seeks a worker is paused until it looks again.
  if (sequences_.Wake(now)) recovery_.SeekReplicas(now);
  const int64_t running = static_cast<int64_t>(sequences_.running().size());
  const int64_t room = std::max<int64_t>(limits_.max_running - running, 0);
  Occupancy occupancy;
  occupancy.runnable = sequences_.runnable() + std::min(sequences_.startable(), room);
  in_flight_.Count(now, occupancy);
  if (!MayFormStep(occupancy, limits_.max_steps_in_flight)) return false;
  const StepPlan plan =
      PlanStep(limits_, sequences_.RunnableViews(), sequences_.StartableViews(room),
               sequences_.pages().free_pages(), sequences_.OthersRunning());
  for (uint64_t handle : plan.preempted)
    sequences_.Preempt(*sequences_.Find(handle), absl::InfinitePast());
  for (uint64_t handle : plan.admitted) {
    recovery_.ChooseWorker(*sequences_.Find(handle));
    sequences_.Admit(handle, now);
  }
  if (plan.rows.empty()) return false;
  RunStep(StartStep(plan));
  return true;
}

MicroBatch EngineLoop::StartStep(const StepPlan& plan) {
  MicroBatch batch;
  batch.step = std::make_shared<Step>();
  batch.head = runner_->model().head.get();
  batch.step->id = ++last_step_id_;
  batch.step->formed = clock_.Now();
  batch.step->sequences = static_cast<int64_t>(plan.rows.size());
  const int64_t planes = spec().layer_count() + 1;
  for (const PlannedRows& rows : plan.rows) {
    StepEntry entry;
    entry.sequence = sequences_.Find(rows.handle);
    entry.first_position = rows.first_position;
    entry.row_count = rows.row_count;
    const absl::Status grown = sequences_.GrowPages(*entry.sequence, entry.end_position());
    CCOE_CHECK(grown.ok());  // the plan counted the pages
    sequences_.BeginStep(*entry.sequence, batch.step->id);
    if (entry.sequence->WantsHidden(rows.first_position, rows.row_count)) {
      entry.hidden.resize(planes * rows.row_count * spec().hidden_size);
    }
    batch.step->rows += rows.row_count;
    batch.entries.push_back(std::move(entry));
  }
  last_step_rows_ = batch.step->rows;
  return batch;
}

void EngineLoop::RunStep(MicroBatch batch) {
  std::vector<int32_t> ids;
  ids.reserve(batch.step->rows);
  for (const StepEntry& entry : batch.entries) {
    const auto tokens = entry.sequence->Tokens(entry.first_position, entry.row_count);
    ids.insert(ids.end(), tokens.begin(), tokens.end());
  }
  const std::shared_ptr<Step> step = batch.step;
  absl::Status status = runner_->Embed(ids);
  if (status.ok()) status = ReadHidden(batch, 0);
  if (status.ok()) {
    RunToEnd(std::move(batch));
  } else {
    output_.FailPass(absl::MakeSpan(batch.entries), Annotate(status, NameOf(*step)));
  }
  touched_.insert(step);
  EndSteps();
}

void EngineLoop::RunToEnd(MicroBatch batch) {
  const absl::Status run = Advance(batch);
  if (!run.ok()) {
    runner_->DropChoices();
    return output_.FailPass(absl::MakeSpan(batch.entries), Annotate(run, NameOf(*batch.step)));
  }
  if (!batch.away()) Deliver(batch, AllRows(batch));
}

void EngineLoop::Deliver(MicroBatch& batch, absl::Span<const HeldRows> held) {
  const absl::Span<StepEntry> entries = absl::MakeSpan(batch.entries);
  output_.Deliver(entries, held, *batch.head);
  // Rows that needed no logits have not been waited for.
  const absl::Status counted = runner_->CountChoices();
  if (!counted.ok()) output_.FailPass(entries, Annotate(counted, NameOf(*batch.step)));
}

absl::Status EngineLoop::Advance(MicroBatch& batch) {
  const int32_t end = runner_->model().decoder->layers().last;
  while (!batch.entries.empty()) {
    CCOE_RETURN_IF_ERROR(RunLayers(batch, NextBoundary(batch, end)));
    if (batch.away()) break;
    const std::vector<LeavingGroup> groups = GroupsLeaving(batch);
    if (groups.empty()) break;  // the end
    CCOE_RETURN_IF_ERROR(layers_.SendAway(batch, groups));
  }
  return absl::OkStatus();
}

absl::Status EngineLoop::RunLayers(MicroBatch& batch, int32_t last) {
  while (batch.cursor < last && !batch.entries.empty()) {
    const int32_t stop = moe_ == nullptr ? last : moe_->NextStop(batch, last);
    CCOE_RETURN_IF_ERROR(RunPlainLayers(batch, stop));
    batch.cursor = stop;
    if (stop == last) break;
    CCOE_RETURN_IF_ERROR(moe_->Run(batch));
    if (batch.away()) break;
    ++batch.cursor;
    CCOE_RETURN_IF_ERROR(ReadHidden(batch, batch.cursor));
  }
  return absl::OkStatus();
}

absl::Status EngineLoop::RunPlainLayers(MicroBatch& batch, int32_t last) {
  const model::LayerRange range{batch.cursor, last};
  const bool capture = std::any_of(batch.entries.begin(), batch.entries.end(),
                                   [](const StepEntry& e) { return !e.hidden.empty(); });
  if (!capture) return runner_->Run(range, BatchOf(batch));
  return runner_->Run(range, BatchOf(batch),
                      [&](int32_t layer) { return ReadHidden(batch, layer + 1); });
}

// Copies the rows of the queries that want hidden states, as they are now, to plane `plane`.
absl::Status EngineLoop::ReadHidden(MicroBatch& batch, int32_t plane) {
  int64_t begin = 0;
  for (StepEntry& entry : batch.entries) {
    if (!entry.hidden.empty()) {
      float* to = entry.hidden.data() + plane * entry.row_count * spec().hidden_size;
      CCOE_RETURN_IF_ERROR(runner_->Read(begin, entry.row_count, to));
    }
    begin += entry.row_count;
  }
  return absl::OkStatus();
}

void EngineLoop::Land(std::vector<SwapAnswer> answers) {
  std::vector<RemoteLayers::Landed> landed;
  for (SwapAnswer& answer : answers) {
    const std::optional<InFlightTable::Landing> landing = in_flight_.Land(answer.swap_id);
    if (!landing.has_value()) continue;
    if (landing->flight->binding != nullptr) {
      landed.push_back(layers_.Land(*landing, std::move(answer.result)));
    } else if (auto resumed = moe_->Land(*landing, std::move(answer.result))) {
      Resume(*std::move(resumed));
    }
  }
  for (RemoteLayers::Landed& rows : RemoteLayers::Join(std::move(landed))) {
    RunLanded(std::move(rows));
  }
}

void EngineLoop::RunLanded(RemoteLayers::Landed landed) {
  MicroBatch& batch = landed.batch;
  const std::shared_ptr<Step> step = batch.step;
  touched_.insert(step);
  const std::vector<size_t> living = batch.Living();
  if (living.empty()) return;
  absl::Status status;
  if (landed.returned > 0) status = runner_->Load(landed.rows);
  if (status.ok() && batch.cursor == spec().layer_count()) {
    return Deliver(batch, landed.held);
  }
  // Layers follow on the backbone.
  if (status.ok() && living.size() < batch.entries.size()) {
    status = runner_->Keep(RowsOf(batch, living));
  }
  if (!status.ok()) {
    return output_.FailPass(absl::MakeSpan(batch.entries), Annotate(status, NameOf(*step)));
  }
  KeepEntries(batch, living);
  RunToEnd(std::move(batch));
}

void EngineLoop::Resume(RemoteMoe::Resumed resumed) {
  MicroBatch& batch = resumed.batch;
  const std::shared_ptr<Step> step = batch.step;
  touched_.insert(step);
  ++batch.cursor;
  if (resumed.status.ok()) resumed.status = ReadHidden(batch, batch.cursor);
  if (!resumed.status.ok()) {
    output_.FailPass(absl::MakeSpan(batch.entries), Annotate(resumed.status, NameOf(*step)));
  } else if (!batch.entries.empty()) {
    RunToEnd(std::move(batch));
  }
}

void EngineLoop::EndSteps() {
  for (const std::shared_ptr<Step>& step : std::exchange(touched_, {})) {
    if (step->flights > 0 || options_.observer == nullptr) continue;
    options_.observer->OnStep(step->rows, step->sequences, clock_.Now() - step->formed);
  }
}

}  // namespace ccoe::engine

#include "runtime/engine/engine_loop.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/base/check.h"
#include "runtime/base/status_macros.h"
#include "runtime/engine/recovery.h"

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

SwapBoardOptions SwapOptionsOf(const EngineOptions& options, const model::ModelSpec& spec) {
  SwapBoardOptions swap_options;
  swap_options.hidden_size = spec.hidden_size;
  swap_options.layer_count = spec.layer_count();
  swap_options.wire_dtype = options.wire_dtype;
  swap_options.swap_timeout = options.swap_timeout;
  swap_options.step_patience = options.step_patience;
  return swap_options;
}

MoeBoardOptions MoeOptionsOf(const EngineOptions& options, const model::ModelSpec& spec) {
  MoeBoardOptions moe_options;
  moe_options.hidden_size = spec.hidden_size;
  moe_options.wire_dtype = options.wire_dtype;
  moe_options.swap_timeout = options.swap_timeout;
  moe_options.step_patience = options.step_patience;
  return moe_options;
}

// INTERNAL where an answer is not of the shape its header asked for.
absl::Status CheckShape(const exchange::StepHeader& header, const exchange::SwapResult& result) {
  const int64_t rows = header.returned_rows() * header.hidden_size;
  const int64_t captured =
      header.capture_layers ? header.layers.size() * header.rows() * header.hidden_size : 0;
  if (result.row_values() == rows && static_cast<int64_t>(result.captured.size()) == captured) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat("answer of a wrong size: expected ", rows, " values and ",
                                          captured, " captured ones, found ", result.row_values(),
                                          " and ", result.captured.size()));
}

// Puts the layer outputs an expert captured into the entries' hidden states.
void StoreCaptured(const exchange::SwapResult& result, SwapFlight& flight) {
  if (result.captured.empty()) return;
  const int64_t width = flight.header.hidden_size;
  const int64_t all_rows = flight.header.rows();
  for (int32_t layer = 0; layer < flight.header.layers.size(); ++layer) {
    const float* from = result.captured.data() + layer * all_rows * width;
    for (StepEntry& entry : flight.entries) {
      const int64_t values = entry.row_count * width;
      float* to = entry.hidden.data() + (flight.header.layers.first + layer + 1) * values;
      std::copy(from, from + values, to);
      from += values;
    }
  }
}

const model::LmHead& HeadOf(const ExpertBinding& binding, const BackboneModel& model) {
  return binding.own_head != nullptr ? *binding.own_head : *model.head;
}

}  // namespace

EngineLoop::EngineLoop(std::unique_ptr<ModelRunner> runner, std::shared_ptr<RequestQueue> inbox,
                       FfnDirectory* ffn, const EngineOptions& options, int64_t pages)
    : options_(options),
      limits_(LimitsOf(options)),
      runner_(std::move(runner)),
      inbox_(std::move(inbox)),
      roster_(pages, options.page_tokens, options.observer),
      swaps_(SwapOptionsOf(options, runner_->model().spec), inbox_),
      moe_swaps_(MoeOptionsOf(options, runner_->model().spec), inbox_,
                 [this] { return swaps_.TakeId(); }),
      delivery_(runner_.get(), &roster_, options.observer),
      moe_(options, {runner_.get(), &delivery_, ffn, &moe_swaps_}) {
  runner_->CountIn(options.moe_statistics);
}

void EngineLoop::Run() {
  absl::Time wake = absl::InfiniteFuture();
  while (true) {
    RequestQueue::Events events = inbox_->Take(wake);
    const bool stop = events.stop;
    Handle(std::move(events));
    if (stop) break;
    const bool formed = FormStep();
    Publish();
    const absl::Time now = absl::Now();
    wake =
        formed
            ? absl::InfinitePast()
            : std::min({roster_.NextEvent(now), swaps_.NextEvent(now), moe_swaps_.NextEvent(now)});
  }
  CancelAll();
  Publish();
}

void EngineLoop::Handle(RequestQueue::Events events) {
  for (SequenceInit& init : events.submissions)
    roster_.Enqueue(std::make_shared<Sequence>(std::move(init)));
  for (uint64_t handle : events.cancels) {
    const std::shared_ptr<Sequence> sequence = roster_.Find(handle);
    if (sequence == nullptr) continue;
    roster_.Finish(sequence, FinishReason::kCancelled,
                   absl::CancelledError("cancelled by the caller"), absl::Now());
  }
  roster_.FinishExpired(absl::Now());
  for (SwapAnswer& answer : events.answers) LandAnswer(std::move(answer));
  for (const std::vector<uint64_t>& overdue :
       {swaps_.Overdue(absl::Now()), moe_swaps_.Overdue(absl::Now())}) {
    for (const uint64_t id : overdue) {
      LandAnswer({id, absl::DeadlineExceededError("the link gave no answer")});
    }
  }
  roster_.FinishExpired(absl::Now());
}

void EngineLoop::CancelAll() {
  std::vector<std::shared_ptr<Sequence>> all;
  for (const SequenceTable::Table* table : {&roster_.running(), &roster_.waiting()}) {
    for (const auto& [handle, sequence] : *table) all.push_back(sequence);
  }
  for (const auto& sequence : all) {
    roster_.Finish(sequence, FinishReason::kCancelled, absl::CancelledError("the engine stops"),
                   absl::Now());
  }
}

void EngineLoop::Publish() {
  RequestQueue::Report report;
  report.load.waiting = static_cast<int64_t>(roster_.waiting().size());
  report.load.running = static_cast<int64_t>(roster_.running().size());
  report.load.kv_tokens_used = roster_.pages().used_pages() * options_.page_tokens;
  report.load.kv_tokens_total = roster_.pages().pages() * options_.page_tokens;
  report.load.prompt_tokens = delivery_.prompt_tokens();
  report.load.generated_tokens = delivery_.generated_tokens();
  report.load.preemptions = roster_.preemptions();
  report.load.steps = static_cast<int64_t>(last_step_id_);
  report.load.last_step_rows = last_step_rows_;
  report.finished = roster_.TakeFinished();
  report.fresh_waiting = roster_.fresh();
  inbox_->Publish(report, absl::Now());
}

bool EngineLoop::FormStep() {
  const absl::Time now = absl::Now();
  const std::vector<SequenceView> running = roster_.RunningViews();
  const std::vector<SequenceView> waiting =
      roster_.WaitingViews(now, limits_.max_running - static_cast<int64_t>(running.size()));
  Occupancy occupancy;
  occupancy.runnable = static_cast<int64_t>(waiting.size()) +
                       std::count_if(running.begin(), running.end(),
                                     [](const SequenceView& v) { return v.runnable; });
  swaps_.Count(now, occupancy);
  moe_swaps_.Count(now, occupancy);
  if (!MayFormStep(occupancy, limits_.max_steps_in_flight)) return false;
  const StepPlan plan = PlanStep(limits_, running, waiting, roster_.pages().free_pages());
  for (uint64_t handle : plan.preempted)
    roster_.Preempt(*roster_.Find(handle), absl::InfinitePast());
  for (uint64_t handle : plan.admitted) roster_.Admit(handle, now);
  if (plan.rows.empty()) return false;
  RunStep(StartStep(plan));
  return true;
}

MicroBatch EngineLoop::StartStep(const StepPlan& plan) {
  MicroBatch branch;
  branch.step = std::make_shared<Step>();
  branch.head = runner_->model().head.get();
  branch.step->id = ++last_step_id_;
  branch.step->formed = absl::Now();
  branch.step->sequences = static_cast<int64_t>(plan.rows.size());
  const int64_t planes = spec().layer_count() + 1;
  for (const PlannedRows& rows : plan.rows) {
    StepEntry entry;
    entry.sequence = roster_.Find(rows.handle);
    entry.first_position = rows.first_position;
    entry.row_count = rows.row_count;
    const absl::Status grown = roster_.GrowPages(*entry.sequence, entry.end_position());
    CCOE_CHECK(grown.ok());  // the plan counted the pages
    entry.sequence->BeginStep(branch.step->id);
    if (entry.sequence->WantsHidden(rows.first_position, rows.row_count)) {
      entry.hidden.resize(planes * rows.row_count * spec().hidden_size);
    }
    branch.step->rows += rows.row_count;
    branch.entries.push_back(std::move(entry));
  }
  last_step_rows_ = branch.step->rows;
  return branch;
}

void EngineLoop::RunStep(MicroBatch branch) {
  std::vector<int32_t> ids;
  ids.reserve(branch.step->rows);
  for (const StepEntry& entry : branch.entries) {
    const auto tokens = entry.sequence->Tokens(entry.first_position, entry.row_count);
    ids.insert(ids.end(), tokens.begin(), tokens.end());
  }
  const std::shared_ptr<Step> step = branch.step;
  absl::Status status = runner_->Embed(ids);
  if (status.ok()) status = ReadHidden(branch, 0);
  if (status.ok()) {
    RunToEnd(std::move(branch));
  } else {
    delivery_.Fail(absl::MakeSpan(branch.entries),
                   Annotate(status, absl::StrCat("step ", step->id)));
  }
  EndStepIfOver(*step);
}

void EngineLoop::RunToEnd(MicroBatch branch) {
  const absl::StatusOr<bool> done = Advance(branch);
  const absl::Span<StepEntry> entries = absl::MakeSpan(branch.entries);
  if (!done.ok()) {
    runner_->DropChoices();
    return delivery_.Fail(entries, Annotate(done.status(), absl::StrCat("step ", branch.step->id)));
  }
  if (!*done) return;
  std::vector<HeldRows> held;
  int64_t begin = 0;
  for (const StepEntry& entry : entries) {
    held.push_back({begin, entry.row_count});
    begin += entry.row_count;
  }
  delivery_.Deliver(entries, held, *branch.head);
  // Rows that needed no logits have not been waited for.
  const absl::Status counted = runner_->CountChoices();
  if (!counted.ok()) {
    delivery_.Fail(entries, Annotate(counted, absl::StrCat("step ", branch.step->id)));
  }
}

absl::StatusOr<bool> EngineLoop::Advance(MicroBatch& branch) {
  const int32_t end = runner_->model().decoder->layers().last;
  while (!branch.entries.empty()) {
    CCOE_ASSIGN_OR_RETURN(const bool here, RunLayers(branch, NextBoundary(branch, end)));
    if (!here) return false;
    const std::vector<LeavingGroup> groups = GroupsLeaving(branch);
    if (groups.empty()) break;  // the end
    CCOE_RETURN_IF_ERROR(SendAway(branch, groups));
  }
  return true;
}

absl::StatusOr<bool> EngineLoop::RunLayers(MicroBatch& branch, int32_t last) {
  while (branch.cursor < last && !branch.entries.empty()) {
    CCOE_RETURN_IF_ERROR(RunPlainLayers(branch, moe_.NextStop(branch, last)));
    if (branch.cursor == last) break;
    CCOE_ASSIGN_OR_RETURN(const bool here, moe_.Run(branch));
    if (!here) return false;
    CCOE_RETURN_IF_ERROR(ReadHidden(branch, branch.cursor));
  }
  return true;
}

absl::Status EngineLoop::RunPlainLayers(MicroBatch& branch, int32_t last) {
  const model::LayerRange range{branch.cursor, last};
  const bool capture = std::any_of(branch.entries.begin(), branch.entries.end(),
                                   [](const StepEntry& e) { return !e.hidden.empty(); });
  branch.cursor = last;
  if (!capture) return runner_->Run(range, BatchOf(branch));
  return runner_->Run(range, BatchOf(branch),
                      [&](int32_t layer) { return ReadHidden(branch, layer + 1); });
}

// Copies the rows of the queries that want hidden states, as they are now, to plane `plane`.
absl::Status EngineLoop::ReadHidden(MicroBatch& branch, int32_t plane) {
  int64_t begin = 0;
  for (StepEntry& entry : branch.entries) {
    if (!entry.hidden.empty()) {
      float* to = entry.hidden.data() + plane * entry.row_count * spec().hidden_size;
      CCOE_RETURN_IF_ERROR(runner_->Read(begin, entry.row_count, to));
    }
    begin += entry.row_count;
  }
  return absl::OkStatus();
}

absl::Status EngineLoop::SendAway(MicroBatch& branch, const std::vector<LeavingGroup>& groups) {
  const std::vector<size_t> staying = Staying(branch, groups);
  const std::vector<int32_t> staying_rows = RowsOf(branch, staying);
  std::vector<exchange::RowBlock> rows;
  for (const LeavingGroup& group : groups) {
    const RowForm form = {group.binding->link->device_memory(), options_.wire_dtype};
    CCOE_ASSIGN_OR_RETURN(rows.emplace_back(),
                          runner_->HandOver(RowsOf(branch, group.entries), form));
  }
  CCOE_RETURN_IF_ERROR(runner_->Wait());
  for (size_t g = 0; g < groups.size(); ++g) {
    std::vector<StepEntry> leaving;
    for (size_t i : groups[g].entries) leaving.push_back(branch.entries[i]);
    swaps_.Send(branch.step, groups[g].binding, std::move(leaving), std::exchange(rows[g], {}));
  }
  KeepEntries(branch, staying);
  return staying.empty() ? absl::OkStatus() : runner_->Keep(staying_rows);
}

void EngineLoop::LandAnswer(SwapAnswer answer) {
  std::optional<SwapFlight> flight = swaps_.Land(answer.swap_id, absl::Now());
  if (!flight.has_value()) return LandContributions(std::move(answer));
  ObserveSwap(*flight, answer.result);
  const std::shared_ptr<Step> step = flight->step;
  absl::Status status = answer.result.status();
  if (status.ok()) status = CheckShape(flight->header, *answer.result);
  if (!status.ok()) {
    RecoverFromSwapError(*flight, status, roster_, absl::Now());
  } else {
    StoreCaptured(*answer.result, *flight);
    if (flight->header.layers.last < spec().layer_count()) {
      Continue(*std::move(flight), *std::move(answer.result));
    } else {
      Deliver(*std::move(flight), *std::move(answer.result));
    }
  }
  EndStepIfOver(*step);
}

// An answer of FFN experts, unless it was given up before.
void EngineLoop::LandContributions(SwapAnswer answer) {
  std::optional<RemoteMoe::Resumed> resumed = moe_.Land(std::move(answer));
  if (!resumed.has_value()) return;
  MicroBatch& branch = resumed->branch;
  if (resumed->status.ok()) resumed->status = ReadHidden(branch, branch.cursor);
  if (!resumed->status.ok()) {
    delivery_.Fail(absl::MakeSpan(branch.entries),
                   Annotate(resumed->status, absl::StrCat("step ", resumed->step->id)));
  } else if (!branch.entries.empty()) {
    RunToEnd(std::move(branch));
  }
  EndStepIfOver(*resumed->step);
}

// The layers after the expert, on the backbone.
void EngineLoop::Continue(SwapFlight flight, exchange::SwapResult result) {
  MicroBatch branch;
  branch.step = flight.step;
  branch.cursor = flight.header.layers.last;
  branch.head = &HeadOf(*flight.binding, runner_->model());
  branch.entries = std::move(flight.entries);
  std::vector<size_t> living;
  for (size_t i = 0; i < branch.entries.size(); ++i) {
    if (branch.entries[i].alive()) living.push_back(i);
  }
  if (living.empty()) return;
  absl::Status status = runner_->Load(result.TakeRows());
  if (status.ok() && living.size() < branch.entries.size()) {
    status = runner_->Keep(RowsOf(branch, living));
  }
  KeepEntries(branch, living);
  if (!status.ok()) return delivery_.Fail(absl::MakeSpan(branch.entries), status);
  RunToEnd(std::move(branch));
}

void EngineLoop::Deliver(SwapFlight flight, exchange::SwapResult result) {
  const absl::Span<StepEntry> entries = absl::MakeSpan(flight.entries);
  std::vector<HeldRows> held;
  int64_t begin = 0;
  for (const exchange::SwapSequence& sequence : flight.header.sequences) {
    held.push_back({begin, sequence.returned()});
    begin += sequence.returned();
  }
  if (result.row_values() > 0) {
    const absl::Status status = runner_->Load(result.TakeRows());
    if (!status.ok()) return delivery_.Fail(entries, status);
  }
  delivery_.Deliver(entries, held, HeadOf(*flight.binding, runner_->model()));
}

void EngineLoop::ObserveSwap(const SwapFlight& flight,
                             const absl::StatusOr<exchange::SwapResult>& result) {
  if (options_.observer == nullptr) return;
  SwapEvent event;
  event.expert = flight.binding->expert;
  event.link = flight.binding->link->Name();
  event.bytes_out = swaps_.WireBytes(flight.header.rows());
  event.round_trip = absl::Now() - flight.sent;
  event.code = result.status().code();
  if (result.ok()) {
    event.bytes_in = swaps_.WireBytes(flight.header.returned_rows());
    event.expert_time = result->expert_time;
  }
  options_.observer->OnSwap(event);
}

void EngineLoop::EndStepIfOver(const Step& step) {
  if (step.swaps_in_flight > 0 || options_.observer == nullptr) return;
  options_.observer->OnStep(step.rows, step.sequences, absl::Now() - step.formed);
}

}  // namespace ccoe::engine

"""The promises of docs/design.md, each broken in every way that we could think of, and who notices.

`old` is as short as it can be and still be in its file once, so that it outlives changes around it. A test is
named here because it is about the promise, not because it happens to fail as well.
"""

from tests.mutations.mutation import Mutation


def _tests(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{file}::{name}" for name in names)


def _transcripts(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/test_dialogues.py::test_the_conversation_goes_as_written[{name}]" for name in names)


_P1 = (
    Mutation(
        name="250-before-the-reply",
        promise="P1",
        effect="250 is said as soon as the final dot is out",
        file="bqfilter/upstream/leg.py",
        old="reply = connection.final_reply(last_moment)",
        new='reply = Reply(250, (b"2.0.0 Ok",))',
        tests=_tests(
            "tests/test_transaction.py",
            "test_the_server_s_answer_to_the_dot_is_the_outcome",
            "test_what_fails_behind_the_dot_is_nobody_s_knowledge",
        )
        + _transcripts("upstream-lost-after-the-dot"),
    ),
    Mutation(
        name="early-reply-counts",
        promise="P1",
        effect="a 250 that comes before the dot is taken for the answer to it",
        file="bqfilter/upstream/connection.py",
        old="if not self._dialogue.is_empty or self._stream.has_input():\n            raise",
        new="if False:\n            raise",
        tests=_tests(
            "tests/upstream/test_connection.py", "test_what_was_said_before_the_dot_is_no_reply_to_it"
        )
        + _transcripts("early-acceptance"),
    ),
    Mutation(
        name="farewell-counts",
        promise="P1",
        effect="221 behind the dot is taken for an acceptance",
        file="bqfilter/upstream/connection.py",
        old="reply.code == _FAREWELL or ",
        new="",
        tests=_tests("tests/upstream/test_connection.py", "test_the_reply_to_quit_is_no_reply_to_the_dot"),
    ),
    Mutation(
        name="first-line-counts",
        promise="P1",
        effect="a reply of several lines is not read to its end",
        file="bqfilter/smtp/client.py",
        old='if match[2] != b"-":',
        new="if True:",
        tests=_tests("tests/smtp/test_client.py", "test_replies_are_read_one_by_one"),
    ),
    Mutation(
        name="two-minds",
        promise="P1",
        effect="the lines of one reply may have different codes, and the last one counts",
        file="bqfilter/smtp/client.py",
        old="(self._so_far and match[1] != self._code)",
        new="False",
        tests=_tests("tests/smtp/test_client.py", "test_what_is_no_reply_ends_the_conversation"),
    ),
    Mutation(
        name="file-not-flushed",
        promise="P1",
        effect="a kept message is not flushed to disk",
        file="bqfilter/quarantine/store.py",
        old="os.fsync(file)",
        new="pass",
        tests=_tests("tests/quarantine/test_store.py", "test_the_order_is_write_flush_rename_flush"),
    ),
    Mutation(
        name="name-not-flushed",
        promise="P1",
        effect="the directory in which a kept message has its name is not flushed",
        file="bqfilter/quarantine/store.py",
        old="os.fsync(opened_day)",
        new="pass",
        tests=_tests("tests/quarantine/test_store.py", "test_the_order_is_write_flush_rename_flush"),
    ),
    Mutation(
        name="day-not-flushed",
        promise="P1",
        effect="the name of a new day's directory is not flushed",
        file="bqfilter/quarantine/store.py",
        old="flush_directory(self._directory)\n",
        new="pass\n",
        tests=_tests(
            "tests/quarantine/test_store.py", "test_the_names_of_new_directories_are_flushed_as_well"
        ),
    ),
    Mutation(
        name="renamed-before-flushed",
        promise="P1",
        effect="a kept message has its name before its bytes are on disk",
        file="bqfilter/quarantine/store.py",
        old="""\
                _write(file, draft.id, record, content)
                if not is_wanted():
                    raise FileExistsError(name.file)
                os.rename(draft.file, name.file, src_dir_fd=day, dst_dir_fd=day)
""",
        new="""\
                os.rename(draft.file, name.file, src_dir_fd=day, dst_dir_fd=day)
                _write(file, draft.id, record, content)
""",
        tests=_tests(
            "tests/quarantine/test_store.py",
            "test_the_order_is_write_flush_rename_flush",
            "test_a_crash_anywhere_while_keeping_leaves_a_draft_or_the_whole_message",
        ),
    ),
    Mutation(
        name="event-not-flushed",
        promise="P1",
        effect="what became of a kept message is not flushed to disk",
        file="bqfilter/quarantine/claim.py",
        old="os.fsync(self._file)",
        new="pass",
        tests=_tests("tests/quarantine/test_claim.py", "test_events_and_states_are_flushed"),
    ),
    Mutation(
        name="state-not-flushed",
        promise="P1",
        effect="the state of a kept message is not flushed to disk",
        file="bqfilter/quarantine/claim.py",
        old="self.name = name\n        os.fsync(self._day)",
        new="self.name = name",
        tests=_tests("tests/quarantine/test_claim.py", "test_events_and_states_are_flushed"),
    ),
    Mutation(
        name="short-write-is-enough",
        promise="P1",
        effect="the rest of a short write is not written",
        file="bqfilter/quarantine/store.py",
        old="    while rest:\n        rest = rest[os.write(file, rest) :]",
        new="    os.write(file, rest)",
        tests=_tests("tests/quarantine/test_store.py", "test_a_short_write_is_continued"),
    ),
    Mutation(
        name="full-quarantine-is-250",
        promise="P1",
        effect="what the quarantine cannot keep is answered 250",
        file="bqfilter/delivery.py",
        old='return Outcome(Result.TEMPFAILED, replies.QUARANTINE_FAILED, f"quarantine: {error}")',
        new="return Outcome(Result.QUARANTINED, replies.OK)",
        tests=_tests(
            "tests/test_delivery.py", "test_a_quarantine_that_cannot_keep_is_told_and_nothing_is_delivered"
        ),
    ),
    Mutation(
        name="no-safety-copies",
        promise="P1",
        effect="copies that follow the first one are not in the quarantine before its dot is sent",
        file="bqfilter/delivery.py",
        old="for parcel in to_send[1:]:",
        new="for parcel in ():",
        tests=_tests(
            "tests/test_delivery.py",
            "test_a_later_copy_that_fails_is_kept_and_the_answer_stays",
            "test_all_recipients_of_a_later_copy_that_fails_are_in_what_is_kept",
        ),
    ),
    Mutation(
        name="safety-copy-always-withdrawn",
        promise="P1",
        effect="a safety copy goes whatever became of its delivery",
        file="bqfilter/delivery.py",
        old="if outcome.result in (Result.ACCEPTED, Result.CLIENT_ABORT):",
        new="if True:",
        tests=_tests(
            "tests/test_delivery.py",
            "test_a_later_copy_that_fails_is_kept_and_the_answer_stays",
            "test_all_recipients_of_a_later_copy_that_fails_are_in_what_is_kept",
        ),
    ),
    Mutation(
        name="refused-for-some-is-dropped",
        promise="P1",
        effect="what is rejected for some recipients and answered 250 for the others is not kept",
        file="bqfilter/scanning/plan.py",
        old="held=(*_with(judged, Action.QUARANTINE), *rejected)",
        new="held=_with(judged, Action.QUARANTINE)",
        tests=_tests(
            "tests/test_delivery.py", "test_what_some_would_reject_is_kept_where_others_want_the_message"
        )
        + _tests(
            "tests/scanning/test_plan.py",
            "test_every_recipient_is_delivered_held_discarded_or_refused_and_only_one_of_these",
        ),
    ),
    Mutation(
        name="own-recipients-not-insisted-on",
        promise="P1",
        effect="a recipient whom we name and the server refuses is forgotten",
        file="bqfilter/handover.py",
        old="_insist(self._upstream.recipient(line, self.limit, self._ledger), line)",
        new="self._upstream.recipient(line, self.limit, self._ledger)",
        tests=_tests(
            "tests/test_delivery.py", "test_a_recipient_of_ours_that_the_server_refuses_is_our_own_trouble"
        ),
    ),
    Mutation(
        name="nobody-to-go-to-is-lost",
        promise="P1",
        effect="a message that is redirected to nobody is neither delivered nor kept",
        file="bqfilter/scanning/decision.py",
        old="if action.delivers and recipients == () and not copies:",
        new="if False:",
        tests=_tests("tests/scanning/test_decision.py", "test_a_message_with_nobody_to_go_to_is_kept"),
    ),
    Mutation(
        name="half-a-spool-is-sent",
        promise="P1",
        effect="a spool file that has lost its end is delivered as it is",
        file="bqfilter/mail/spool.py",
        old="if at < size:",
        new="if False:",
        tests=_tests("tests/mail/test_spool.py", "test_a_file_that_lost_its_end_is_never_half_a_message"),
    ),
    Mutation(
        name="spool-failure-is-overlooked",
        promise="P1",
        effect="a message that the spool could not take is handed over all the same",
        file="bqfilter/transaction.py",
        old="if self.spool.failure is None:",
        new="if True:",
        tests=_tests("tests/test_transaction.py", "test_a_spool_that_failed_is_a_temporary_matter")
        + _transcripts("spool-full"),
    ),
    Mutation(
        name="discards-in-silence",
        promise="P1",
        effect="the log does not say why a message was dropped",
        file="bqfilter/session.py",
        old="why=outcome.reason or None,",
        new="",
        tests=_tests("tests/test_session.py", "test_the_log_says_why_a_message_was_dropped"),
    ),
)

_P2 = (
    Mutation(
        name="no-look-before-the-dot",
        promise="P2",
        effect="whether the client is still there is not asked right before the dot",
        file="bqfilter/upstream/connection.py",
        old="        go()\n",
        new="",
        tests=_tests(
            "tests/test_transaction.py", "test_a_client_that_leaves_during_the_hand_over_gets_no_delivery"
        )
        + _tests("tests/upstream/test_connection.py", "test_without_leave_the_dot_stays_here")
        + _transcripts("client-left-during-handover"),
    ),
    Mutation(
        name="look-before-the-content",
        promise="P2",
        effect="it is asked before the content is written, not behind it",
        file="bqfilter/upstream/connection.py",
        old="        wire = message.wire()\n",
        new="        go()\n        go = lambda: None\n        wire = message.wire()\n",
        tests=_tests("tests/test_transaction.py", "test_the_client_is_looked_for_right_before_the_dot")
        + _tests(
            "tests/upstream/test_connection.py",
            "test_whether_to_go_is_asked_behind_the_content_and_before_the_dot",
        ),
    ),
    Mutation(
        name="blind-behind-pipelined-bytes",
        promise="P2",
        effect="a client that has closed is not seen to have left while bytes of it are unread",
        file="bqfilter/net/stream.py",
        old="_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR",
        new="_GONE = select.POLLHUP | select.POLLERR",
        tests=_tests("tests/net/test_stream.py", "test_a_peer_that_has_left_is_seen_behind_what_it_sent"),
    ),
    Mutation(
        name="commit-reserve-ignored",
        promise="P2",
        effect="the dot is sent when too little is left to hear the reply to it",
        file="bqfilter/budget.py",
        old="latest - settings.commit_reserve",
        new="latest",
        tests=_tests("tests/test_budget.py", "test_the_dot_must_leave_the_reserve_before_that")
        + _tests("tests/test_transaction.py", "test_without_time_the_dot_is_not_sent"),
    ),
    Mutation(
        name="clock-not-asked",
        promise="P2",
        effect="the dot is sent however late it is",
        file="bqfilter/handover.py",
        old="if self.limit.has_passed:",
        new="if False:",
        tests=_tests(
            "tests/test_transaction.py",
            "test_without_time_the_dot_is_not_sent",
            "test_time_that_runs_out_during_the_hand_over_stops_the_dot",
        ),
    ),
    Mutation(
        name="waits-beyond-the-budget",
        promise="P2",
        effect="the reply to the dot is waited for longer than the client waits for ours",
        file="bqfilter/budget.py",
        old="settings.proxy_timeout - _LAST_MOMENT_SHARE",
        new="settings.proxy_timeout + _LAST_MOMENT_SHARE",
        tests=_tests("tests/test_budget.py", "test_once_the_dot_is_out_a_part_of_the_margin_is_used_too")
        + _transcripts("upstream-silent-after-the-dot"),
    ),
    Mutation(
        name="written-dot-counts-as-unwritten",
        promise="P2",
        effect="a dot that left this process before the connection broke counts as not sent",
        file="bqfilter/upstream/connection.py",
        old="if loss.written >= len(wire):",
        new="if False:",
        tests=_tests(
            "tests/upstream/test_connection.py", "test_whether_the_dot_was_among_what_was_taken_decides"
        ),
    ),
    Mutation(
        name="lost-reply-is-certain",
        promise="P2",
        effect="a server lost behind the dot is taken for one that certainly has no message",
        file="bqfilter/handover.py",
        old="return Outcome(Result.OUTCOME_UNKNOWN, replies.UPSTREAM_LOST, told)",
        new="return Outcome(Result.TEMPFAILED, replies.UPSTREAM_LOST, cause)",
        tests=_tests("tests/test_transaction.py", "test_what_fails_behind_the_dot_is_nobody_s_knowledge")
        + _transcripts("upstream-lost-after-the-dot"),
    ),
    Mutation(
        name="second-try-without-end",
        promise="P2",
        effect="a transaction is said again as often as its server is lost",
        file="bqfilter/upstream/leg.py",
        old="may_retry = not said.is_replayed and ",
        new="may_retry = ",
        tests=_tests("tests/upstream/test_leg.py", "test_a_transaction_is_said_again_only_once")
        + _transcripts("lost-twice"),
    ),
    Mutation(
        name="failed-connection-is-kept",
        promise="P2",
        effect="a connection on which a hand-over failed is used again, with its transaction open",
        file="bqfilter/upstream/leg.py",
        old="        self._said = None\n        self._hang_up()",
        new="        self._said = None",
        tests=_tests("tests/upstream/test_leg.py", "test_an_abandoned_transaction_is_hung_up_on")
        + _transcripts("client-left-during-handover"),
    ),
    Mutation(
        name="no-reset-ahead",
        promise="P2",
        effect="no RSET goes ahead of a message on a connection where a transaction was left open",
        file="bqfilter/upstream/connection.py",
        old="self._needs_reset = True",
        new="self._needs_reset = False",
        tests=_transcripts("kept-connection-reset-ahead"),
    ),
    Mutation(
        name="no-reset-behind-recipients",
        promise="P2",
        effect="a transaction with recipients stays open when its client has gone",
        file="bqfilter/upstream/leg.py",
        old="elif said is not None and said.recipients:",
        new="elif False:",
        tests=_tests(
            "tests/upstream/test_leg.py",
            "test_a_message_that_is_not_handed_over_leaves_nothing_open_on_a_kept_connection",
        ),
    ),
    Mutation(
        name="client-s-rset-forgotten",
        promise="P2",
        effect="the recipients named before a client's RSET get the message that follows it",
        file="bqfilter/smtp/phases.py",
        old="commands.Rset: Row(_COMMANDS, replies.UNKNOWN_COMMAND, then=Phase.READY, drops=True)",
        new="commands.Rset: Row(_COMMANDS, replies.UNKNOWN_COMMAND, then=Phase.READY)",
        tests=_transcripts("rset-and-second-message"),
    ),
    Mutation(
        name="one-deferral-defers-some",
        promise="P2",
        effect="what is deferred for some recipients is delivered to the others, now and once more later",
        file="bqfilter/scanning/plan.py",
        old="refused = deferred or (",
        new="refused = (",
        tests=_tests("tests/test_delivery.py", "test_one_that_defers_defers_all")
        + _tests("tests/scanning/test_plan.py", "test_what_differs_between_recipients_comes_to_one_answer"),
    ),
    Mutation(
        name="kept-too-late",
        promise="P2",
        effect="what took longer to keep than there is time for it is kept all the same",
        file="bqfilter/delivery.py",
        old="        self._handover.go()\n        return _UNSENT",
        new="        return _UNSENT",
        tests=_tests(
            "tests/test_delivery.py", "test_what_took_longer_to_keep_than_there_is_time_is_not_kept"
        ),
    ),
    Mutation(
        name="refused-but-kept",
        promise="P2",
        effect="what was kept for a message that then failed stays, to be released one day",
        file="bqfilter/delivery.py",
        old="            self._withdraw(kept)\n            return outcome if",
        new="            return outcome if",
        tests=_tests(
            "tests/test_delivery.py",
            "test_a_copy_of_what_was_not_delivered_is_withdrawn",
            "test_where_the_first_copy_fails_nothing_is_delivered_or_kept",
        ),
    ),
    Mutation(
        name="mistake-behind-the-first-copy",
        promise="P2",
        effect="a mistake of ours behind the first delivery makes a failure of the answer",
        file="bqfilter/delivery.py",
        old="with self._no_way_back():",
        new="if True:",
        tests=_tests(
            "tests/test_delivery.py",
            "test_a_mistake_of_ours_behind_the_first_copy_does_not_make_the_client_come_again",
        ),
    ),
    Mutation(
        name="released-twice",
        promise="P2",
        effect="a release sends to those as well who have the message",
        file="bqfilter/release.py",
        old="tuple(one for one in wanted if not has_it(one.address, fared))",
        new="wanted",
        tests=_tests(
            "tests/test_release.py",
            "test_a_second_release_does_nothing_and_says_when_it_was",
            "test_a_crash_between_any_two_steps_is_never_a_second_delivery",
        ),
    ),
    Mutation(
        name="doubt-overlooked",
        promise="P2",
        effect="a message that may have been delivered is released without being asked for twice",
        file="bqfilter/release.py",
        old="if not order.again and (doubt :=",
        new="if False and (doubt :=",
        tests=_tests(
            "tests/test_release.py",
            "test_a_server_lost_behind_the_dot_leaves_it_in_doubt",
            "test_a_safety_copy_is_in_doubt_until_somebody_says_otherwise",
        ),
    ),
    Mutation(
        name="doubt-written-too-late",
        promise="P2",
        effect="the file of a message on its release does not say at the dot that nothing is known",
        file="bqfilter/release.py",
        old="        self._claim.turn(State.UNKNOWN)",
        new="        pass",
        tests=_tests(
            "tests/test_release.py", "test_when_the_server_hears_the_dot_the_file_says_that_nothing_is_known"
        ),
    ),
    Mutation(
        name="no-lock",
        promise="P2",
        effect="two may release one message at the same time",
        file="bqfilter/quarantine/claim.py",
        old="fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        new="pass",
        tests=_tests("tests/quarantine/test_claim.py", "test_a_claimed_message_is_nobody_elses")
        + _tests("tests/test_release.py", "test_nobody_else_can_have_it_meanwhile"),
    ),
    Mutation(
        name="unheard-acceptance-untold",
        promise="P2",
        effect="the log does not say that a client left before it heard of the delivery",
        file="bqfilter/session.py",
        old="        if is_unheard:\n",
        new="        if False:\n",
        tests=_transcripts("client-left-before-it-heard"),
    ),
    Mutation(
        name="possible-duplicate-not-counted",
        promise="P2",
        effect="a worker that ends between the dot and its reply is not counted",
        file="bqfilter/pool/master.py",
        old="slot.count(Word.OUTCOME_UNKNOWN)",
        new="pass",
        tests=_tests(
            "tests/pool/test_crashes.py", "test_a_worker_that_ends_after_the_dot_leaves_a_line_and_is_counted"
        ),
    ),
)

_P3 = (
    Mutation(
        name="lf-dot-lf-ends",
        promise="P3",
        effect="LF.LF ends the data",
        file="bqfilter/smtp/body.py",
        old="        seam = tail + bytes(chunk[: min(4, length)])\n",
        new="""\
        seam = tail + bytes(chunk[:length])
        if b"\\n.\\n" in seam:
            return seam.index(b"\\n.\\n") + 3 - len(tail)
""",
        tests=_tests("tests/smtp/test_body.py", "test_nothing_else_is_an_end_of_data")
        + _transcripts("smuggling"),
    ),
    Mutation(
        name="lf-dot-crlf-ends",
        promise="P3",
        effect="LF.CRLF ends the data",
        file="bqfilter/smtp/body.py",
        old="        seam = tail + bytes(chunk[: min(4, length)])\n",
        new="""\
        seam = tail + bytes(chunk[:length])
        if b"\\n.\\r\\n" in seam:
            return seam.index(b"\\n.\\r\\n") + 4 - len(tail)
""",
        tests=_tests("tests/smtp/test_body.py", "test_nothing_else_is_an_end_of_data")
        + _transcripts("smuggling"),
    ),
    Mutation(
        name="end-across-two-reads",
        promise="P3",
        effect="an end of data that two reads have cut is not found",
        file="bqfilter/smtp/body.py",
        old="self._tail = bytes(chunk[length - 4 : length]) if length >= 4 else seam[-4:]",
        new='self._tail = b""',
        tests=_tests("tests/smtp/test_body.py", "test_an_end_of_data_cut_at_any_three_places_is_found")
        + _transcripts("end-of-data-cut-anywhere"),
    ),
    Mutation(
        name="not-unstuffed",
        promise="P3",
        effect="a message with strays is stuffed without having been un-stuffed",
        file="bqfilter/smtp/body.py",
        old="return stuff(without_strays(unstuff(chunks)))",
        new="return stuff(without_strays(chunks))",
        tests=_tests("tests/smtp/test_body.py", "test_a_clean_message_is_cleaned_to_itself")
        + _transcripts("smuggling"),
    ),
    Mutation(
        name="not-stuffed-anew",
        promise="P3",
        effect="a message that was freed of strays is not stuffed again",
        file="bqfilter/smtp/body.py",
        old="return stuff(without_strays(unstuff(chunks)))",
        new="return without_strays(unstuff(chunks))",
        tests=_tests("tests/smtp/test_body.py", "test_what_leaves_has_no_stray_and_ends_once")
        + _transcripts("smuggling"),
    ),
    Mutation(
        name="edited-and-not-stuffed",
        promise="P3",
        effect="a message that was edited is not stuffed again",
        file="bqfilter/mail/outgoing.py",
        old="return stuff(self.cleaned())",
        new="return self.cleaned()",
        tests=_tests(
            "tests/mail/test_outgoing.py",
            "test_an_edited_message_is_stuffed_behind_its_edits",
            "test_nothing_but_the_final_dot_ends_an_edited_message",
        ),
    ),
    Mutation(
        name="edited-and-not-cleaned",
        promise="P3",
        effect="strays that an edit brings in leave as they are",
        file="bqfilter/mail/outgoing.py",
        old="ending_in_crlf(without_strays(self.content()))",
        new="ending_in_crlf(self.content())",
        tests=_tests("tests/mail/test_outgoing.py", "test_nothing_but_the_final_dot_ends_an_edited_message"),
    ),
    Mutation(
        name="released-and-not-stuffed",
        promise="P3",
        effect="a message that is released is not stuffed",
        file="bqfilter/release.py",
        old="stuff(claim.content())",
        new="claim.content()",
        tests=_tests("tests/test_release.py", "test_a_message_is_handed_over_as_it_came"),
    ),
    Mutation(
        name="bare-cr-leaves",
        promise="P3",
        effect="a stray CR leaves as it came",
        file="bqfilter/smtp/body.py",
        old='b"\\r": b" "',
        new='b"\\r": b"\\r"',
        tests=_tests("tests/smtp/test_body.py", "test_strays_are_replaced")
        + _tests("tests/test_session.py", "test_whatever_the_content_one_message_leaves_and_it_is_clean"),
    ),
    Mutation(
        name="bare-lf-leaves",
        promise="P3",
        effect="a stray LF leaves as it came",
        file="bqfilter/smtp/body.py",
        old='b"\\n": b"\\r\\n"',
        new='b"\\n": b"\\n"',
        tests=_tests("tests/smtp/test_body.py", "test_strays_are_replaced") + _transcripts("smuggling"),
    ),
    Mutation(
        name="strays-count-as-clean",
        promise="P3",
        effect="a message with strays is passed on as it is",
        file="bqfilter/smtp/body.py",
        old="return self._stray_count == 0",
        new="return True",
        tests=_tests("tests/smtp/test_body.py", "test_a_message_is_clean_when_it_has_no_stray_cr_or_lf")
        + _transcripts("smuggling"),
    ),
    Mutation(
        name="end-of-file-ends-a-message",
        promise="P3",
        effect="a client that closes in the middle of content has sent a message",
        file="bqfilter/session.py",
        old="            count = self._client.read_into(self._buffer, self._wait_for_client())\n",
        new="""\
            try:
                count = self._client.read_into(self._buffer, self._wait_for_client())
            except ConversationLost:
                break
""",
        tests=_transcripts("end-of-connection-in-data", "quit-inside-data"),
    ),
    Mutation(
        name="quit-ends-a-message",
        promise="P3",
        effect="a line QUIT in the content is the end of it",
        file="bqfilter/session.py",
        old="            end = self._take_content(transaction, self._buffer, count)\n",
        new="""\
            end = self._take_content(transaction, self._buffer, count)
            if bytes(self._buffer[:count]).endswith(b"QUIT\\r\\n"):
                break
""",
        tests=_transcripts("quit-inside-data"),
    ),
    Mutation(
        name="farewell-within-content",
        promise="P3",
        effect="QUIT is said in the middle of content, where it is a part of that",
        file="bqfilter/upstream/connection.py",
        old="if self._state is _State.READY and not self._has_quit:",
        new="if not self._has_quit:",
        tests=_tests("tests/upstream/test_connection.py", "test_without_leave_the_dot_stays_here"),
    ),
    Mutation(
        name="behind-the-end-is-lost",
        promise="P3",
        effect="commands that came together with the end of the data are thrown away",
        file="bqfilter/smtp/server.py",
        old="self._lines.feed(bytes(chunk[end:length]))",
        new="pass",
        tests=_tests("tests/smtp/test_server.py", "test_commands_behind_the_content_are_kept")
        + _transcripts("after-queue-pipelined"),
    ),
    Mutation(
        name="stray-cr-in-a-command",
        promise="P3",
        effect="a command line with a stray CR or NUL is forwarded",
        file="bqfilter/smtp/commands.py",
        old='if b"\\r" in line or b"\\0" in line:',
        new="if False:",
        tests=_tests("tests/smtp/test_commands.py", "test_a_wrong_line_becomes_the_reply_that_it_earns")
        + _transcripts("hostile-command-lines"),
    ),
    Mutation(
        name="value-ends-its-field",
        promise="P3",
        effect="a line end in the value of a header field that we add ends that field",
        file="bqfilter/mail/fields.py",
        old='(fold[1] or " ")',
        new="fold[1]",
        tests=_tests("tests/mail/test_fields.py", "test_no_value_can_end_its_field"),
    ),
)

_P4 = (
    Mutation(
        name="fields-written-anew",
        promise="P4",
        effect="fields that nobody edits are unfolded when others are edited",
        file="bqfilter/mail/fields.py",
        old="yield field.raw, replacements.get(field.index, field.raw)",
        new='yield field.raw, replacements.get(field.index, b"%b: %b\\r\\n" % (field.name, field.value))',
        tests=_tests("tests/mail/test_fields.py", "test_what_is_not_edited_keeps_blanks_folds_and_odd_bytes"),
    ),
    Mutation(
        name="signed-field-edited",
        promise="P4",
        effect="fields that a DKIM signature covers are edited",
        file="bqfilter/scanning/marks.py",
        old="if not self.settings.change_signed:",
        new="if False:",
        tests=_tests(
            "tests/scanning/test_marks.py",
            "test_a_signed_field_is_left_alone_unless_the_site_says_otherwise",
            "test_a_signature_still_verifies_when_a_message_has_been_tagged",
        ),
    ),
    Mutation(
        name="oversigned-field-added",
        promise="P4",
        effect="a field is added under a name that a signature has sealed",
        file="bqfilter/scanning/marks.py",
        old="return signed[name] <= len(there) and ",
        new="return ",
        tests=_tests(
            "tests/scanning/test_marks.py",
            "test_edits_leave_what_is_signed_as_it_was_and_forged_fields_always_go",
        ),
    ),
    Mutation(
        name="forged-fields-stay",
        promise="P4",
        effect="fields that claim to be ours are passed on",
        file="bqfilter/scanning/marks.py",
        old="return (*self._forged(header), ",
        new="return (",
        tests=_tests(
            "tests/scanning/test_marks.py",
            "test_fields_in_our_name_go_whatever_the_verdict",
            "test_authentication_results_that_claim_to_be_ours_go",
        ),
    ),
    Mutation(
        name="command-line-tidied",
        promise="P4",
        effect="blanks of the client's RCPT line do not reach the after-filter server",
        file="bqfilter/smtp/commands.py",
        old="return Rcpt(line, *grammar",
        new="return Rcpt(line.strip(), *grammar",
        tests=_tests("tests/smtp/test_commands.py", "test_a_forwarded_line_is_the_line_that_came")
        + _transcripts("commands-as-the-remote-client-typed-them"),
    ),
    Mutation(
        name="size-not-corrected",
        promise="P4",
        effect="a message with another body is declared with the size that the client's had",
        file="bqfilter/smtp/commands.py",
        old='[_SIZE.sub(b"SIZE=%d" % size, word) for word in mail.parameters.split()]',
        new="mail.parameters.split()",
        tests=_tests("tests/smtp/test_commands.py", "test_a_mail_line_is_made_true_of_other_content")
        + _tests("tests/test_delivery.py", "test_another_body_is_declared_as_what_it_is"),
    ),
    Mutation(
        name="eight-bits-not-declared",
        promise="P4",
        effect="a body with eight-bit bytes is sent to a server that did not hear of them",
        file="bqfilter/parcels.py",
        old="is_8bit = is_8bit or not piece.isascii()",
        new="pass",
        tests=_tests(
            "tests/test_delivery.py",
            "test_another_body_is_declared_as_what_it_is",
            "test_a_body_that_the_server_cannot_take_is_not_sent",
        ),
    ),
    Mutation(
        name="xforward-once",
        promise="P4",
        effect="the second message on a connection comes without XFORWARD, and has its header rewritten",
        file="bqfilter/upstream/connection.py",
        old="forward = xforward_lines(client, attributes)",
        new="forward = xforward_lines(client, attributes) if self.transaction_count == 1 else []",
        tests=_transcripts("kept-connection"),
    ),
    Mutation(
        name="facts-outlive-their-message",
        promise="P4",
        effect="what XFORWARD told of one client is told of the next message on the same connection",
        file="bqfilter/session.py",
        old="        self._facts = Client()\n        return outcome.reply",
        new="        return outcome.reply",
        tests=_transcripts("facts-end-with-their-message"),
    ),
    Mutation(
        name="refused-xforward-is-overlooked",
        promise="P4",
        effect="a message whose XFORWARD was refused passes for one of this host",
        file="bqfilter/upstream/connection.py",
        old="if not is_forwarded and reply.is_positive:",
        new="if False:",
        tests=_transcripts("xforward-refused"),
    ),
)

_P5 = (
    Mutation(
        name="421-passed-on",
        promise="P5",
        effect="the after-filter server's 421 and 521 reach the client",
        file="bqfilter/smtp/replies.py",
        old="_DEFUSED = {421: 451, 521: 554}",
        new="_DEFUSED: dict[int, int] = {}",
        tests=_tests("tests/smtp/test_replies.py", "test_what_may_reach_the_client")
        + _transcripts("refusal-421-becomes-451"),
    ),
    Mutation(
        name="421-of-our-own",
        promise="P5",
        effect="421 is said where there is no after-filter server",
        file="bqfilter/smtp/replies.py",
        old="UPSTREAM_UNAVAILABLE = reply(451,",
        new="UPSTREAM_UNAVAILABLE = reply(421,",
        tests=_tests(
            "tests/smtp/test_replies.py", "test_no_words_of_ours_make_postfix_drop_the_remote_client"
        )
        + _transcripts("upstream-down-at-mail"),
    ),
    Mutation(
        name="lost-server-is-250",
        promise="P5",
        effect="250 is said where the after-filter server is lost before the dot",
        file="bqfilter/handover.py",
        old="return Outcome(Result.TEMPFAILED, replies.UPSTREAM_LOST, cause)",
        new="return Outcome(Result.ACCEPTED, replies.OK, cause)",
        tests=_tests(
            "tests/test_transaction.py", "test_what_fails_before_the_dot_is_certainly_not_delivered"
        ),
    ),
    Mutation(
        name="lost-server-is-5xx",
        promise="P5",
        effect="a message is refused for good where the after-filter server is lost",
        file="bqfilter/smtp/replies.py",
        old='UPSTREAM_LOST = reply(451, "4',
        new='UPSTREAM_LOST = reply(554, "5',
        tests=_transcripts("upstream-lost-after-the-dot", "data-answered-wrongly"),
    ),
    Mutation(
        name="full-spool-is-5xx",
        promise="P5",
        effect="a message is refused for good where the spool is full",
        file="bqfilter/smtp/replies.py",
        old='SPOOL_FULL = reply(452, "4',
        new='SPOOL_FULL = reply(552, "5',
        tests=_transcripts("spool-full"),
    ),
    Mutation(
        name="full-spool-ends-the-session",
        promise="P5",
        effect="what the spool raises is not answered",
        file="bqfilter/mail/spool.py",
        old="        except OSError as error:\n            self._fail(error)\n        except MemoryError:",
        new="        except MemoryError:",
        tests=_tests("tests/mail/test_spool.py", "test_a_failure_is_remembered_and_the_rest_is_swallowed")
        + _transcripts("spool-full"),
    ),
    Mutation(
        name="mistake-without-a-reply",
        promise="P5",
        effect="a mistake of ours leaves the client without an answer",
        file="bqfilter/session.py",
        old="        except Exception:\n            self._apologise()",
        new="        except Exception:\n            pass",
        tests=_tests("tests/test_session.py", "test_a_mistake_of_ours_is_a_451_and_a_traceback"),
    ),
    Mutation(
        name="error-is-a-hit",
        promise="P5",
        effect="a scanner that fails has found something",
        file="bqfilter/scanning/runner.py",
        old="return Report(Finding.ERROR, cause,",
        new="return Report(Finding.HIT, cause,",
        tests=_tests(
            "tests/test_delivery.py", "test_a_scanner_that_fails_does_as_it_is_told_and_never_finds_anything"
        )
        + _tests(
            "tests/scanning/test_runner.py", "test_whatever_it_raises_is_a_report_and_the_next_is_asked"
        ),
    ),
    Mutation(
        name="error-is-clean",
        promise="P5",
        effect="a message is passed on unscanned where on_error says defer",
        file="bqfilter/scanning/runner.py",
        old='return DEFER if choice == "defer" else None',
        new="return None",
        tests=_tests(
            "tests/test_delivery.py", "test_a_scanner_that_fails_does_as_it_is_told_and_never_finds_anything"
        )
        + _tests(
            "tests/scanning/test_runner.py", "test_whatever_it_raises_is_a_report_and_the_next_is_asked"
        ),
    ),
    Mutation(
        name="nonsense-of-clamd-is-clean",
        promise="P5",
        effect="a reply of clamd that means nothing is a clean bill",
        file="bqfilter/scanning/clamd.py",
        old="raise ScannerFailure(f'answered \"{one_line(reply)}\"')",
        new="return None",
        tests=_tests("tests/scanning/test_clamd.py", "test_every_other_reply_is_a_failure"),
    ),
    Mutation(
        name="half-a-scan-counts",
        promise="P5",
        effect="what clamd says about half a message counts for all of it",
        file="bqfilter/scanning/clamd.py",
        old="            exchange.check_sent()\n",
        new="",
        tests=_tests("tests/scanning/test_clamd.py", "test_a_verdict_about_half_a_message_is_none"),
    ),
    Mutation(
        name="broken-off-scan-counts",
        promise="P5",
        effect="a check that spamd broke off is taken for a verdict",
        file="bqfilter/scanning/spamd.py",
        old="if _BROKEN_OFF in symbols",
        new="if False",
        tests=_tests("tests/scanning/test_spamd.py", "test_a_check_that_was_broken_off_is_no_verdict"),
    ),
    Mutation(
        name="wait-in-the-queue-ignored",
        promise="P5",
        effect="a client that has waited too long for a worker is served as if it were still there",
        file="bqfilter/budget.py",
        old="return waited is not None and waited >=",
        new="return False and waited >=",
        tests=_tests("tests/test_budget.py", "test_the_wait_in_the_queue_counts")
        + _transcripts("waited-too-long"),
    ),
    Mutation(
        name="mailbox-refuses-the-client",
        promise="P5",
        effect="what the quarantine's mailbox does not take is refused to the client",
        file="bqfilter/delivery.py",
        old="return outcome if plan.delivered else _own_trouble(outcome)",
        new="return outcome",
        tests=_tests(
            "tests/test_delivery.py", "test_a_mailbox_that_refuses_the_content_does_not_refuse_the_client"
        ),
    ),
)

_P6 = (
    Mutation(
        name="time-anew-with-every-read",
        promise="P6",
        effect="a client buys time for a command with single bytes",
        file="bqfilter/session.py",
        old="self._dialogue.receive(self._client.read(patience))",
        new="self._dialogue.receive(self._client.read(self._wait_for_client()))",
        tests=_tests(
            "tests/test_session.py", "test_a_client_cannot_buy_time_for_a_command_with_single_bytes"
        ),
    ),
    Mutation(
        name="server-buys-time",
        promise="P6",
        effect="an after-filter server buys time for a reply with single bytes",
        file="bqfilter/upstream/connection.py",
        old="        while (reply := self._dialogue.next_reply()) is None:\n",
        new="""\
        given = deadline.remaining()
        while (reply := self._dialogue.next_reply()) is None:
            deadline = Deadline.after(self._clock, given)
""",
        tests=_tests("tests/upstream/test_connection.py", "test_a_server_cannot_buy_time_with_single_bytes"),
    ),
    Mutation(
        name="scanner-buys-time",
        promise="P6",
        effect="a scanner buys time for its answer with single bytes",
        file="bqfilter/scanning/exchange.py",
        old="self._received += self._stream.read(self._deadline)",
        new="self._received += self._stream.read(Deadline.after(self._deadline._clock, 10.0))",
        tests=_tests(
            "tests/scanning/test_exchange.py", "test_a_peer_that_trickles_does_not_extend_the_deadline"
        ),
    ),
    Mutation(
        name="sipping-peer-buys-time",
        promise="P6",
        effect="a peer that takes single bytes extends a write for ever",
        file="bqfilter/net/stream.py",
        old="""\
            left = deadline.remaining()
            if left <= 0:
                raise PeerTimeout("peer takes no data", written)
""",
        new="            left = 0.5\n",
        tests=_tests("tests/net/test_stream.py", "test_a_sipping_peer_cannot_extend_a_write"),
    ),
    Mutation(
        name="signals-buy-time",
        promise="P6",
        effect="a signal now and then makes a read last longer than its deadline",
        file="bqfilter/net/stream.py",
        old="_LONGEST = 0.5",
        new="_LONGEST = 3600.0",
        tests=_tests("tests/net/test_stream.py", "test_signals_do_not_extend_a_deadline"),
    ),
    Mutation(
        name="scanners-take-it-all",
        promise="P6",
        effect="each scanner has its timeout, whatever those before it have used up",
        file="bqfilter/scanning/runner.py",
        old="deadline = case.limit.within(seat.scanner.settings.timeout)",
        new="deadline = Deadline.after(self._clock, seat.scanner.settings.timeout)",
        tests=_tests(
            "tests/scanning/test_runner.py",
            "test_each_has_its_timeout_and_all_together_the_budget",
            "test_no_scanner_is_asked_after_the_deadline_or_given_a_later_one",
        ),
    ),
    Mutation(
        name="mistake-of-a-scanner-escapes",
        promise="P6",
        effect="an exception in the code of a scanner ends the message",
        file="bqfilter/scanning/runner.py",
        old="except BaseException as mistake:",
        new="except ZeroDivisionError as mistake:",
        tests=_tests(
            "tests/scanning/test_runner.py", "test_whatever_it_raises_is_a_report_and_the_next_is_asked"
        ),
    ),
    Mutation(
        name="breaker-never-opens",
        promise="P6",
        effect="a scanner that fails time and again is asked with every message",
        file="bqfilter/breaker.py",
        old="if place.failures_since(answered_at, rows) < terms.failures:",
        new="if True:",
        tests=_tests("tests/test_breaker.py", "test_failures_of_all_workers_open_it_for_all"),
    ),
    Mutation(
        name="breaker-never-closes",
        promise="P6",
        effect="a scanner that was left alone once is never tried again",
        file="bqfilter/breaker.py",
        old="return State.OPEN if now < until else State.PROBING",
        new="return State.OPEN",
        tests=_tests("tests/test_breaker.py", "test_an_attempt_that_is_answered_closes_it_for_all"),
    ),
    Mutation(
        name="everybody-tries-again",
        promise="P6",
        effect="all workers try a scanner that hangs at the same time",
        file="bqfilter/breaker.py",
        old="self._place.own.set_seconds(HealthWord.PROBED_AT, self._clock())",
        new="pass",
        tests=_tests(
            "tests/test_breaker.py",
            "test_one_worker_tries_again_while_all_others_leave_it_alone",
            "test_an_open_one_lets_one_worker_at_a_time_through",
        ),
    ),
    Mutation(
        name="swallowed-interruption",
        promise="P6",
        effect="a site's filter that swallows its interruption counts as having answered",
        file="bqfilter/scanning/interrupt.py",
        old='    if alarm.has_rung:\n        raise ScannerInterrupted("did not finish in time, and',
        new='    if False:\n        raise ScannerInterrupted("did not finish in time, and',
        tests=_tests("tests/scanning/test_interrupt.py", "test_code_that_does_not_return_is_a_failure"),
    ),
    Mutation(
        name="log-waits",
        promise="P6",
        effect="a worker waits for whoever reads the log",
        file="bqfilter/log/sinks.py",
        old="os.O_WRONLY | os.O_NONBLOCK |",
        new="os.O_WRONLY |",
        tests=_tests("tests/pool/test_serving.py", "test_mail_flows_on_while_nobody_reads_the_log"),
    ),
    Mutation(
        name="log-that-fails-raises",
        promise="P6",
        effect="a log that cannot be written is an exception in a session",
        file="bqfilter/log/sinks.py",
        old="""\
        except OSError:
            return False
        return True

    def _with_origin""",
        new="""\
        except ZeroDivisionError:
            return False
        return True

    def _with_origin""",
        tests=_tests("tests/log/test_sinks.py", "test_a_pipe_that_nobody_empties_does_not_block"),
    ),
    Mutation(
        name="no-metrics-no-mail",
        promise="P6",
        effect="an address for metrics that is taken keeps the daemon from starting",
        file="bqfilter/pool/exporter.py",
        old="except (ConfigError, OSError, ValueError) as error:",
        new="except ZeroDivisionError as error:",
        tests=_tests(
            "tests/pool/test_exporter.py",
            "TestWithout::test_an_address_that_is_taken_is_a_warning_and_mail_flows",
        ),
    ),
    Mutation(
        name="exporter-takes-the-master-down",
        promise="P6",
        effect="the master ends when its exporter has died",
        file="bqfilter/pool/exporter.py",
        old="            self._bury(now)\n",
        new="            raise SystemExit(1)\n",
        tests=_tests(
            "tests/pool/test_exporter.py",
            "TestItsLife::test_a_dead_one_is_replaced_and_the_counters_go_on",
            "TestItsLife::test_one_that_keeps_dying_is_replaced_later_and_later",
        ),
    ),
    Mutation(
        name="no-scoreboard-no-mail",
        promise="P6",
        effect="without a runtime directory the daemon does not start",
        file="bqfilter/pool/master.py",
        old="""\
        except OSError as error:
            self._log.warning(
                "no scoreboard file,""",
        new="""\
        except ZeroDivisionError as error:
            self._log.warning(
                "no scoreboard file,""",
        tests=_tests("tests/pool/test_serving.py", "test_a_pool_without_a_runtime_directory_serves"),
    ),
    Mutation(
        name="bad-file-ends-the-master",
        promise="P6",
        effect="a reload with a bad file ends the daemon",
        file="bqfilter/pool/master.py",
        old="self._bulletin.reload_failed(",
        new="raise SystemExit(",
        tests=_tests("tests/pool/test_reload.py", "test_with_a_bad_file_the_old_settings_and_workers_stay"),
    ),
    Mutation(
        name="bad-file-takes-effect",
        promise="P6",
        effect="a reload takes settings that would send mail in a circle",
        file="bqfilter/pool/outfit.py",
        old="    refuse_loop(listening, upstream)\n",
        new="",
        tests=_tests("tests/pool/test_reload.py", "test_a_reload_into_a_loop_is_refused"),
    ),
    Mutation(
        name="bad-filter-takes-effect",
        promise="P6",
        effect="a reload takes a site's filter that cannot be loaded",
        file="bqfilter/pool/rehearsal.py",
        old="    if told:\n        raise ConfigError(told)",
        new="    del told",
        tests=_tests("tests/pool/test_rehearsal.py", "test_what_is_wrong_is_told"),
    ),
    Mutation(
        name="dead-worker-not-replaced",
        promise="P6",
        effect="a pool has one worker less with every one that dies",
        file="bqfilter/pool/roster.py",
        old="return max(self.size - staying, 0)",
        new="return 0 if self.children else self.size",
        tests=_tests("tests/pool/test_roster.py", "test_the_dead_are_replaced_one_by_one")
        + _tests("tests/pool/test_crashes.py", "test_a_killed_idle_worker_is_replaced_and_the_others_stay"),
    ),
    Mutation(
        name="no-throttle",
        promise="P6",
        effect="workers that die at once are forked as fast as the machine can",
        file="bqfilter/pool/roster.py",
        old="min(_FIRST_DELAY * 2**doublings,",
        new="0 * min(_FIRST_DELAY * 2**doublings,",
        tests=_tests(
            "tests/pool/test_roster.py",
            "test_early_deaths_in_a_row_wait_twice_as_long_each_time_up_to_a_minute",
            "test_nobody_is_forked_while_the_throttle_is_closed",
        ),
    ),
    Mutation(
        name="stuck-worker-stays",
        promise="P6",
        effect="a worker that outlives every limit is left alone",
        file="bqfilter/pool/master.py",
        old="_KILL_GRACE and not child.was_killed:",
        new="_KILL_GRACE and False:",
        tests=_tests(
            "tests/pool/test_crashes.py",
            "test_a_worker_that_hangs_beyond_all_its_limits_is_killed_and_replaced",
        ),
    ),
    Mutation(
        name="old-workers-leave-first",
        promise="P6",
        effect="a reload makes the pool smaller until the new workers are up",
        file="bqfilter/pool/roster.py",
        old="leaving = replaceable[:excess]",
        new="leaving = replaceable",
        tests=_tests(
            "tests/pool/test_roster.py",
            "test_old_workers_leave_only_as_new_ones_come_up",
            "test_whatever_the_order_of_events_the_pool_is_never_made_smaller_than_its_size",
        ),
    ),
    Mutation(
        name="counters-fall",
        promise="P6",
        effect="what a worker has counted is lost when another takes its slot",
        file="bqfilter/scoreboard.py",
        old="        self._counts[Word.JOBS] = 0\n",
        new="        self._counts[Word.JOBS] = self._counts[Word.SESSIONS] = 0\n",
        tests=_tests("tests/test_scoreboard.py", "test_counters_belong_to_the_slot_and_outlive_the_worker")
        + _tests(
            "tests/saturation/test_collector.py",
            "TestCounters::test_none_falls_whatever_becomes_of_the_workers",
        ),
    ),
    Mutation(
        name="out-of-descriptors",
        promise="P6",
        effect="a worker without a free descriptor dies",
        file="bqfilter/pool/worker.py",
        old="            return listener.accept()\n        except OSError as error:",
        new="            return listener.accept()\n        except ZeroDivisionError as error:",
        tests=_tests(
            "tests/pool/test_serving.py", "test_a_worker_out_of_descriptors_says_so_and_loses_no_connection"
        ),
    ),
    Mutation(
        name="fork-that-fails",
        promise="P6",
        effect="the master ends where no worker can be forked",
        file="bqfilter/pool/master.py",
        old="        except Exception as error:  # no process or memory",
        new="        except ZeroDivisionError as error:  #",
        tests=_tests("tests/pool/test_crashes.py", "test_a_fork_that_fails_is_tried_again_later_and_later"),
    ),
    Mutation(
        name="orphans-go-on",
        promise="P6",
        effect="idle workers stay when their master has died, and keep the port from the next one",
        file="bqfilter/pool/worker.py",
        old="while not self._is_leaving and self._has_master():",
        new="while not self._is_leaving:",
        tests=_tests("tests/pool/test_crashes.py", "test_orphaned_workers_finish_their_session_and_leave"),
    ),
)

_P7 = (
    Mutation(
        name="allow-list-permits-all",
        promise="P7",
        effect="the list of who may connect lets everybody in",
        file="bqfilter/net/address.py",
        old="return any(address in network for network in self._networks)",
        new="return True",
        tests=_tests(
            "tests/net/test_address.py",
            "test_an_allow_list_permits_the_networks_in_it_and_nobody_else",
            "test_an_empty_allow_list_permits_nobody",
        ),
    ),
    Mutation(
        name="allow-list-not-asked",
        promise="P7",
        effect="whoever comes to a listener is let in",
        file="bqfilter/net/listeners.py",
        old='return accepted.host == "" or ',
        new="return True or ",
        tests=_tests("tests/net/test_listeners.py", "test_only_allowed_addresses_may_come_in")
        + _tests(
            "tests/pool/test_serving.py", "test_peers_outside_the_list_get_554_and_those_inside_are_served"
        ),
    ),
    Mutation(
        name="allow-list-not-reloaded",
        promise="P7",
        effect="a reload does not change who may connect",
        file="bqfilter/pool/master.py",
        old="        self._take_allow_lists()\n",
        new="",
        tests=_tests("tests/pool/test_reload.py", "test_a_reload_changes_who_may_connect"),
    ),
    Mutation(
        name="open-without-a-list",
        promise="P7",
        effect="a listener that others can reach needs no list of who may connect",
        file="bqfilter/config/schema.py",
        old="if not self.allow and not is_loopback(self.endpoint):",
        new="if False:",
        tests=_tests("tests/config/test_schema.py", "test_a_listener_open_to_others_needs_an_allow_list"),
    ),
    Mutation(
        name="workers-are-root",
        promise="P7",
        effect="workers keep the privileges of the master",
        file="bqfilter/pool/worker.py",
        old="drop_privileges(self._outfit.identity)",
        new="pass",
        tests=_tests(
            "tests/pool/test_serving.py", "test_workers_are_nobody_for_good_and_in_no_group_of_roots"
        ),
    ),
    Mutation(
        name="groups-of-root",
        promise="P7",
        effect="workers stay in root's groups",
        file="bqfilter/pool/startup.py",
        old="os.setgroups(identity.groups)",
        new="pass",
        tests=_tests(
            "tests/pool/test_serving.py", "test_workers_are_nobody_for_good_and_in_no_group_of_roots"
        ),
    ),
    Mutation(
        name="root-as-runtime-user",
        promise="P7",
        effect="runtime.user may be root",
        file="bqfilter/pool/startup.py",
        old="if entry.pw_uid == 0:",
        new="if False:",
        tests=_tests("tests/pool/test_startup.py", "TestIdentity::test_workers_do_not_run_as_root"),
    ),
    Mutation(
        name="exporter-is-root",
        promise="P7",
        effect="the exporter keeps the privileges of the master",
        file="bqfilter/pool/exporter.py",
        old="            drop_privileges(self._identity)\n",
        new="",
        tests=_tests("tests/pool/test_exporter.py", "TestItsLife::test_it_is_an_unprivileged_user"),
    ),
    Mutation(
        name="kept-messages-for-all-to-read",
        promise="P7",
        effect="everybody on the machine can read what is kept",
        file="bqfilter/quarantine/store.py",
        old="_FILE_MODE = 0o600",
        new="_FILE_MODE = 0o644",
        tests=_tests("tests/quarantine/test_store.py", "test_nobody_else_may_read_what_is_kept"),
    ),
    Mutation(
        name="links-in-the-quarantine",
        promise="P7",
        effect="a link in the quarantine's directory is followed",
        file="bqfilter/quarantine/claim.py",
        old="flags | os.O_NOFOLLOW |",
        new="flags |",
        tests=_tests(
            "tests/quarantine/test_store.py", "test_what_is_no_plain_file_is_neither_read_nor_changed"
        ),
    ),
    Mutation(
        name="commands-from-a-file",
        promise="P7",
        effect="whatever stands in a kept file as a command line is sent",
        file="bqfilter/release.py",
        old="check(claim.stored.record)",
        new="pass",
        tests=_tests("tests/test_release.py", "test_a_command_that_was_put_into_a_file_is_not_sent"),
    ),
    Mutation(
        name="socket-for-all",
        promise="P7",
        effect="a unix socket has a wider mode than it was given",
        file="bqfilter/net/listeners.py",
        old="mask = os.umask(0o777 & ~mode)",
        new="mask = os.umask(0)",
        tests=_tests("tests/net/test_listeners.py", "test_a_unix_socket_gets_its_mode_whatever_the_umask"),
    ),
    Mutation(
        name="scoreboard-for-all",
        promise="P7",
        effect="everybody on the machine can write to the scoreboard",
        file="bqfilter/scoreboard.py",
        old="fd = create_file(scratch, 0o640)",
        new="fd = create_file(scratch, 0o640)\n        os.fchmod(fd, 0o666)",
        tests=_tests("tests/test_scoreboard.py", "test_others_cannot_write_the_file"),
    ),
)

MUTATIONS: tuple[Mutation, ...] = (*_P1, *_P2, *_P3, *_P4, *_P5, *_P6, *_P7)

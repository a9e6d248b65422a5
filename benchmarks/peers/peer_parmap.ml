(* peer_parmap QUESTION: OCaml's parmap. It forks workers for each call, so an argument is inherited and its start is in every answer. *)
let workers = 2
let payload = 1 lsl 20

let answer question setting value unit note =
  Printf.printf "{\"question\": \"%s\", \"setting\": \"%s\", \"value\": %.6g, \"unit\": \"%s\", \"note\": \"%s\"}\n%!"
    question setting value unit note

let seconds run =
  let start = Unix.gettimeofday () in
  run ();
  Unix.gettimeofday () -. start

(* run count for counts that grow until it takes 0.2 s: items a second of the last. *)
let rec rate ?(count = 1000) most run =
  let took = seconds (fun () -> run count) in
  if took >= 0.2 || count >= most then float_of_int count /. took else rate ~count:(count * 10) most run

let map ?chunksize count =
  let items = Array.init count (fun i -> i) in
  ignore (Parmap.array_parmap ~ncores:workers ?chunksize (fun item -> item) items)

let ask_map () =
  answer "map" "default" (rate 10_000_000 (fun count -> map count) /. 1e6) "M items/s" "a share a worker";
  let rates = List.map (fun chunksize -> (rate 1_000_000 (fun count -> map ~chunksize count), chunksize)) [1000; 10000; 50000] in
  let best, chunk = List.fold_left max (0., 0) rates in
  answer "map" "best chunk size" (best /. 1e6) "M items/s" (Printf.sprintf "chunks of %d" chunk)

let ask_tasks () = answer "tasks" "default" (rate 10_000 (fun count -> map ~chunksize:1 count) /. 1e6) "M/s" "chunks of 1"

let ask_roundtrip () =
  let trip () = ignore (Parmap.parmap ~ncores:2 ~chunksize:1 (fun item -> item) (Parmap.L [1])) in
  let us = Array.init 500 (fun _ -> seconds trip *. 1e6) in
  Array.sort compare us;
  answer "roundtrip" "median" us.(250) "us" "forks for each call";
  answer "roundtrip" "99th percentile" us.(495) "us" "forks for each call"

(* Until as many as are expected have come: so each worker comes once. *)
let meet path count =
  let file = Unix.openfile path [Unix.O_WRONLY; Unix.O_APPEND] 0o600 in
  ignore (Unix.write_substring file "x" 0 1);
  Unix.close file;
  while (Unix.stat path).Unix.st_size < count do Unix.sleepf 0.0002 done

let ask_start () =
  let start count =
    let path = Filename.temp_file "peer" "" in
    let items = Parmap.L (List.init count (fun i -> i)) in
    let took = seconds (fun () -> ignore (Parmap.parmap ~ncores:count ~chunksize:1 (fun _ -> meet path count) items)) in
    Sys.remove path;
    answer "start" (Printf.sprintf "%d workers" count) (took *. 1e3) "ms" "fork; their end included" in
  start 2;
  start 16

let ask_echo () =
  let bytes = Bytes.make payload 'x' in
  let send () = ignore (Parmap.parmap ~ncores:2 ~chunksize:1 (fun item -> item) (Parmap.L [bytes])) in
  let took = seconds (fun () -> for _ = 1 to 40 do send () done) in
  answer "echo" "1 MiB" (2. *. float_of_int (payload * 40) /. took /. 1e9) "GB/s" "only the answer travels; forks for each call"

let spin us =
  let end_ = Sys.time () +. us /. 1e6 in
  while Sys.time () < end_ do () done

let rec lines_of file = match input_line file with line -> line :: lines_of file | exception End_of_file -> []

let ask_uneven () =
  let costs = List.map float_of_string (lines_of (open_in (Sys.getenv "PEER_COSTS"))) in
  let total = List.fold_left (+.) 0. costs and longest = List.fold_left max 0. costs in
  let ideal = max (total /. float_of_int workers) longest /. 1e6 in
  let run ?chunksize setting =
    let took = seconds (fun () -> ignore (Parmap.parmap ~ncores:workers ?chunksize spin (Parmap.L costs))) in
    answer "uneven" setting (took /. ideal) "x ideal" "" in
  run "default";
  run ~chunksize:1 "one by one"

let () =
  match Sys.argv with
  | [| _; "map" |] -> ask_map ()
  | [| _; "tasks" |] -> ask_tasks ()
  | [| _; "roundtrip" |] -> ask_roundtrip ()
  | [| _; "start" |] -> ask_start ()
  | [| _; "echo" |] -> ask_echo ()
  | [| _; "uneven" |] -> ask_uneven ()
  | _ -> ()

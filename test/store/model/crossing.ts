// A history in which some steps are taken at once: the model goes on from the order that explains what SQL made of them.
import { inspect } from "node:util";
import { attemptIdSchema } from "../../../shared/ids.ts";
import type { ModelDatabase } from "../../simulation/model/database.ts";
import type { ClockedLab } from "./clocked-lab.ts";
import { atOnce, byOrder, isEqual, someOrder, type Answered } from "./interleave.ts";
import { shown, tell } from "./operation.ts";
import { Player, type Step } from "./play.ts";
import { differences, modelTables, sqlTables, type Tables } from "./tables.ts";

export class Crossing {
  readonly #lab: ClockedLab;
  readonly #player: Player;

  constructor(lab: ClockedLab) {
    this.#lab = lab;
    this.#player = new Player(lab);
  }

  begin(): Promise<void> {
    return this.#player.begin();
  }

  play(step: Step): Promise<void> {
    return this.#player.play(step);
  }

  async cross(steps: readonly Step[]): Promise<void> {
    const { history } = this.#player;
    const operations = steps.flatMap(({ verb, throws }) => (verb === "time" ? [] : [this.#player.draw(verb, throws)]));
    for (const { name, given } of operations) this.#player.note({ name: `at once: ${name}`, given });
    const answered = await atOnce(this.#lab.databases, operations);
    const seen = await sqlTables(this.#lab.database);
    const explained =
      (await someOrder(history.db, answered, (db) =>
        Promise.resolve(isEqual(seen, modelTables(db)) ? db : undefined),
      )) ?? (await this.#explainedBySweep(answered));
    if (explained === undefined) throw this.#unexplained(answered, seen);
    await this.#goOn(explained);
  }

  /** What a greeting or a removal could not see of the others yet, the sweep ends. */
  async #explainedBySweep(answered: readonly Answered[]): Promise<ModelDatabase | undefined> {
    if (!answered.some(({ operation }) => operation.name === "greet" || operation.name === "remove-agent"))
      return undefined;
    const sweep = this.#player.draw("sweep", []);
    const answer = await sweep.ask(this.#lab.database);
    const seen = await sqlTables(this.#lab.database);
    return someOrder(this.#player.history.db, answered, async (db) => {
      await tell(sweep, db, { answer, alone: true });
      return isEqual(seen, modelTables(db)) ? db : undefined;
    });
  }

  /** Takes the queue numbers that SQL has drawn. */
  async #goOn(db: ModelDatabase): Promise<void> {
    const rows = await this.#lab.sql(
      `select id, queue_no, (select last_value from attempt_queue_no) as last from attempt`,
    );
    db.transaction("durable", "numbers", () => {
      for (const row of rows) {
        const attempt = db.attempts.get(attemptIdSchema.parse(row["id"]));
        if (attempt !== undefined) db.attempts.put(attempt.id, { ...attempt, queueNo: Number(row["queue_no"]) });
      }
    });
    while (db.queueNo < Number(rows[0]?.["last"] ?? 0)) db.nextQueueNo();
    this.#player.history.db = db;
    await this.#player.compareRows();
    await this.#lab.pass(1);
  }

  #unexplained(answered: readonly Answered[], seen: Tables): Error {
    const before = modelTables(this.#player.history.db);
    return this.#player.difference([
      "no order of these explains their answers and the rows:",
      ...answered.map(
        ({ operation, answer }) => `${operation.name} answered ${inspect(shown(answer), { depth: 6, compact: true })}`,
      ),
      "the rows that changed (SQL now; the model before):",
      ...differences(byOrder(seen), byOrder(before)),
    ]);
  }
}

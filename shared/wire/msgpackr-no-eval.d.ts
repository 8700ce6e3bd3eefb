// msgpackr publishes no types for its build without eval; it has the same surface.
declare module "msgpackr/index-no-eval" {
  export { Packr, Unpackr } from "msgpackr";
}

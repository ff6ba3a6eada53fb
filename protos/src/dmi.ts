/** The device management interface (docs/spec/dmi.md). An entry of its own: only who speaks it pays for its import. */
export * from '../gen/dmi/v1beta1/dmi_pb.ts'

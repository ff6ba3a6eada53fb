/**
 * Fields of the messages that clients send in protobuf, by number: what kubectl creates with a command of its own (`create
 * configmap`), what client-go writes for leader election and events, and DeleteOptions. From the generated.proto files of
 * k8s.io/api and k8s.io/apimachinery 1.32. `[]` is a list, `{}` a map by string, a capital another message of this table.
 */
export const protobufFields: Readonly<Record<string, Readonly<Record<number, readonly [name: string, type: string]>>>> = {
  Unknown: { 1: ['typeMeta', 'TypeMeta'], 2: ['raw', 'message'], 3: ['contentEncoding', 'string'], 4: ['contentType', 'string'] },
  TypeMeta: { 1: ['apiVersion', 'string'], 2: ['kind', 'string'] },
  ObjectMeta: {
    1: ['name', 'string'], 2: ['generateName', 'string'], 3: ['namespace', 'string'], 5: ['uid', 'string'],
    6: ['resourceVersion', 'string'], 7: ['generation', 'integer'], 8: ['creationTimestamp', 'time'],
    9: ['deletionTimestamp', 'time'], 10: ['deletionGracePeriodSeconds', 'integer'], 11: ['labels', '{}string'],
    12: ['annotations', '{}string'], 13: ['ownerReferences', '[]OwnerReference'], 14: ['finalizers', '[]string']
  },
  OwnerReference: {
    1: ['kind', 'string'], 3: ['name', 'string'], 4: ['uid', 'string'], 5: ['apiVersion', 'string'],
    6: ['controller', 'boolean'], 7: ['blockOwnerDeletion', 'boolean']
  },
  ObjectReference: {
    1: ['kind', 'string'], 2: ['namespace', 'string'], 3: ['name', 'string'], 4: ['uid', 'string'],
    5: ['apiVersion', 'string'], 6: ['resourceVersion', 'string'], 7: ['fieldPath', 'string']
  },
  LocalObjectReference: { 1: ['name', 'string'] },
  ConfigMap: {
    1: ['metadata', 'ObjectMeta'], 2: ['data', '{}string'], 3: ['binaryData', '{}bytes'], 4: ['immutable', 'boolean']
  },
  Secret: {
    1: ['metadata', 'ObjectMeta'], 2: ['data', '{}bytes'], 3: ['type', 'string'], 4: ['stringData', '{}string'],
    5: ['immutable', 'boolean']
  },
  Namespace: { 1: ['metadata', 'ObjectMeta'], 2: ['spec', 'NamespaceSpec'] },
  NamespaceSpec: { 1: ['finalizers', '[]string'] },
  ServiceAccount: {
    1: ['metadata', 'ObjectMeta'], 2: ['secrets', '[]ObjectReference'], 3: ['imagePullSecrets', '[]LocalObjectReference'],
    4: ['automountServiceAccountToken', 'boolean']
  },
  Service: { 1: ['metadata', 'ObjectMeta'], 2: ['spec', 'ServiceSpec'] },
  ServiceSpec: {
    1: ['ports', '[]ServicePort'], 2: ['selector', '{}string'], 3: ['clusterIP', 'string'], 4: ['type', 'string'],
    5: ['externalIPs', '[]string'], 7: ['sessionAffinity', 'string'], 8: ['loadBalancerIP', 'string'],
    9: ['loadBalancerSourceRanges', '[]string'], 10: ['externalName', 'string'], 11: ['externalTrafficPolicy', 'string'],
    12: ['healthCheckNodePort', 'integer'], 13: ['publishNotReadyAddresses', 'boolean'],
    14: ['sessionAffinityConfig', 'SessionAffinityConfig'], 17: ['ipFamilyPolicy', 'string'], 18: ['clusterIPs', '[]string'],
    19: ['ipFamilies', '[]string'], 20: ['allocateLoadBalancerNodePorts', 'boolean'], 21: ['loadBalancerClass', 'string'],
    22: ['internalTrafficPolicy', 'string'], 23: ['trafficDistribution', 'string']
  },
  ServicePort: {
    1: ['name', 'string'], 2: ['protocol', 'string'], 3: ['port', 'integer'], 4: ['targetPort', 'int-or-string'],
    5: ['nodePort', 'integer'], 6: ['appProtocol', 'string']
  },
  SessionAffinityConfig: { 1: ['clientIP', 'ClientIPConfig'] },
  ClientIPConfig: { 1: ['timeoutSeconds', 'integer'] },
  Event: {
    1: ['metadata', 'ObjectMeta'], 2: ['involvedObject', 'ObjectReference'], 3: ['reason', 'string'], 4: ['message', 'string'],
    5: ['source', 'EventSource'], 6: ['firstTimestamp', 'time'], 7: ['lastTimestamp', 'time'], 8: ['count', 'integer'],
    9: ['type', 'string'], 10: ['eventTime', 'micro-time'], 11: ['series', 'EventSeries'], 12: ['action', 'string'],
    13: ['related', 'ObjectReference'], 14: ['reportingComponent', 'string'], 15: ['reportingInstance', 'string']
  },
  EventSource: { 1: ['component', 'string'], 2: ['host', 'string'] },
  EventSeries: { 1: ['count', 'integer'], 2: ['lastObservedTime', 'micro-time'] },
  Lease: { 1: ['metadata', 'ObjectMeta'], 2: ['spec', 'LeaseSpec'] },
  LeaseSpec: {
    1: ['holderIdentity', 'string'], 2: ['leaseDurationSeconds', 'integer'], 3: ['acquireTime', 'micro-time'],
    4: ['renewTime', 'micro-time'], 5: ['leaseTransitions', 'integer'], 6: ['strategy', 'string'], 7: ['preferredHolder', 'string']
  },
  DeleteOptions: {
    1: ['gracePeriodSeconds', 'integer'], 2: ['preconditions', 'Preconditions'], 3: ['orphanDependents', 'boolean'],
    4: ['propagationPolicy', 'string'], 5: ['dryRun', '[]string']
  },
  Preconditions: { 1: ['uid', 'string'], 2: ['resourceVersion', 'string'] },
  Time: { 1: ['seconds', 'integer'], 2: ['nanos', 'integer'] },
  IntOrString: { 1: ['type', 'integer'], 2: ['intVal', 'integer'], 3: ['strVal', 'string'] }
}

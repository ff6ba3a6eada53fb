// For who serves objects of a source of his own, for reading: without the object store and custom resource definitions, whose
// loading takes a program a tenth of a second.
export { decodeContinue, encodeContinue } from './continue-token.ts'
export { ageColumn, ageOf, builtInResource, column, nameColumn, nameOf } from './kinds/built-in-resource.ts'
export { builtInResources } from './kinds/built-in-resources.ts'
export { History, OwnEvent } from './object-store-history.ts'
export {
  parseResourceVersion, tooLargeResourceVersion, validateListOptions, validateWatchOptions
} from './object-store-options.ts'
export { Registry } from './registry.ts'
export { forbiddenTo, isOpenPath } from './server/authorization.ts'
export { KubeApiServer } from './server/kube-api-server.ts'
export { writeKubeconfig } from './server/kubeconfig.ts'
export { StatusError } from './status-error.ts'
export { dns1123SubdomainErrors } from './validation/names.ts'
export { WatchHub } from './watch-hub.ts'
